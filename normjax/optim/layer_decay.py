"""Learning rates that fall from the last layer to the first."""

from collections.abc import Sequence

import optax

from normjax import errors
from normjax.optim import evaluation, policies
from normjax.types import Array, PyTree

__all__ = ["decay_by_layer", "layer_factors"]


def layer_factors(
  decay: float | Array, layers: Sequence[str]
) -> list[tuple[str, float | Array]]:
  """Rules (pattern, factor of the updates); see `decay_by_layer`."""
  last = len(layers)
  rules = [(path, decay ** (last - n)) for n, path in enumerate(layers)]
  return [*rules, (".*", 1.0)]


def decay_by_layer(
  inner: optax.GradientTransformation,
  decay: float | Array,
  layers: Sequence[str],
) -> optax.GradientTransformationExtraArgs:
  """Multiplies the updates of layer l, of the last one n, by decay^(n - l).

      u_l *= decay^(n - l)

  Layer-wise learning-rate decay as BEiT, MAE and timm have it: BEiT (Bao et
  al. 2021, arXiv:2106.08254), optim_factory.py. The weight decay of an
  optimizer is in its updates and hence multiplied too, as timm's lr_scale
  multiplies the rate of both. The state is that of `inner`.

  Args:
    inner: the optimizer.
    decay: in (0, 1], may be traced.
    layers: patterns of the paths of layers 0, 1, …; the first that matches
      counts, and what none matches is in the last layer, n = len(layers).

  Raises:
    UserError: a pattern that is no regular expression; at `init`, an optimizer
      that evaluates at parameters of its own (schedule-free methods), which an
      update that is changed afterwards would no longer belong to.
  """
  scale = policies.scale_by_path(layer_factors(decay, layers))
  inner = optax.with_extra_args_support(inner)

  def init(params: PyTree) -> optax.OptState:
    state = inner.init(params)
    if evaluation.evaluation_params(state, params) is not params:
      raise errors.UserError(
        "train.layer_decay: the optimizer evaluates at parameters of its own,"
        " which updates scaled by layer do not reach; allowed: 1.0."
      )
    return state

  def update(updates, state, params=None, **extra_args):
    updates, state = inner.update(updates, state, params, **extra_args)
    scaled, _ = scale.update(updates, optax.EmptyState())
    return scaled, state

  return optax.GradientTransformationExtraArgs(init, update)
