"""Options of a config that a learning procedure does not read."""

from collections.abc import Mapping
from typing import Any

from normjax import configure, errors

# Leaf -> (what it must be, why).
_LOSS = "its loss takes the place of the objective's"
_REFUSED: Mapping[str, tuple[Any, str]] = {
  "objective.name": ("", _LOSS),
  "train.label_smoothing": (0.0, _LOSS),
  "train.z_loss": (0.0, _LOSS),
  "train.mixup_alpha": (0.0, "no loss of its reads mixed targets"),
  "train.cutmix_alpha": (0.0, "no loss of its reads mixed targets"),
  "data.augment": (False, "it keeps and draws examples as they are stored"),
  "train.layout.batch_statistics": ("global", "it has batches of its own"),
}


def check(
  asked: str, config: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> None:
  """Raises UserError where a leaf says what nothing would read.

  Args:
    asked: the leaf of the procedure and its value, as "continual.learner='er'".
    config: resolved.
    more: leaves of which only this value is read, with why.
  """
  flat = dict(configure.leaves(config))
  for path, (allowed, why) in {**_REFUSED, **(more or {})}.items():
    value = flat.get(path, allowed)
    if value != allowed:
      raise errors.UserError(
        f"{path}={value!r} with {asked}: {why}; allowed: {allowed!r}."
      )


def check_norms(asked: str, variables: Mapping[str, Any]) -> None:
  """Raises UserError for norms with statistics of the backward pass."""
  import jax

  if jax.tree.leaves(variables["grad_stats"]):
    raise errors.UserError(
      f"{asked}: the model's norms have statistics of the backward pass"
      " (power_norm, unified_norm), which one plain batch per step moves;"
      " allowed: norms without."
    )
