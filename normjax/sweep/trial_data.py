"""What trials may see: never what the final runs are reported on.

Cross-validated sets choose their parts by the seed of a run (`data.folds`): a
trial of another fold than its final run trains or tunes on examples that the
final run is validated on.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from normjax import data, errors
from normjax.record.comparison import Tuning
from normjax.sweep import checks
from normjax.sweep.spec import FIRST_TUNING_SEED


def split(config: Mapping[str, Any]) -> str | None:
  """Where a trial is evaluated; None: where the final runs are.

  Args:
    config: of the final run, resolved, as plain dicts.

  Returns:
    "tuning" where the data keeps such a part. Else what validates, where the
    final runs read the test split: no choice is made on that. Else None, and
    the report says that choices were made on the data of the final numbers.
  """
  block = config.get("data")
  if block is None:
    return None
  if data.has_tuning_split(block):
    return "tuning"
  reads_test = config.get("evaluate", {}).get("split") == "test"
  return "validation" if reads_test else None


def check_folds(
  label: str, block: Mapping[str, Any], tunings: Sequence[Tuning]
) -> None:
  """Refuses tuning seeds whose trials see what a final run is validated on.

  A shared choice does in any case; then the report says so.

  Args:
    label: of the method.
    block: `data` of its resolved config.
    tunings: of the sweep.

  Raises:
    UserError: with seeds that do.
  """
  count = block.get("num_folds", 0)
  if not checks.is_int(count) or count < 1:  # What it may be, data says.
    return
  chosen = [
    (seed, tuning.for_seed)
    for tuning in tunings
    for seed in tuning.seeds
    if tuning.for_seed is not None
  ]
  if all(seed == final + FIRST_TUNING_SEED for seed, final in chosen):
    return
  from normjax.data import folds  # Late: imports jax.

  def fits(seed: int, final: int) -> bool:
    return folds.of_seed(seed, count) == folds.of_seed(final, count)

  for seed, final in chosen:
    if not fits(seed, final):
      own = next(s for s in itertools.count(seed) if fits(s, final))
      raise errors.UserError(
        f"method {label!r}: the tuning seed {seed} has another fold of"
        f" data.num_folds={count} than final seed {final}: its trials would see"
        f" what that seed is validated on. The next that fits: {own}; without"
        f" Tune.seeds it is {final + FIRST_TUNING_SEED}."
      )
