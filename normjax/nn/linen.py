"""Any norm as a Flax Linen module: the only place where Linen meets norms."""

from typing import Any

from flax import linen
from jax.typing import DTypeLike

from normjax import norms
from normjax.nn import given
from normjax.norms import modes
from normjax.types import Array


class LinenNorm(linen.Module):
  """A norm with its variables, in Linen's collections.

  Parameters are in "params", running statistics in "batch_stats" (mutable
  while training) and statistics of the backward pass in
  "_overwrite_with_gradient", which Flax's `TrainState` takes beside "params"
  and replaces by its gradient. All are float32 whatever the compute dtype, but
  for int32 counters. Initializing does not count as a step of the running
  statistics; a norm that draws (`Norm.needs_key`) takes a key of the "params"
  stream then.

  Attributes:
    norm: a name, a mapping with "name", or a Norm.
    shape: the feature shape, (d,) or (h, w, c); None takes the last axis of x.
    dtype: of the output; None keeps the input's.
  """

  norm: norms.NormSpec
  shape: tuple[int, ...] | None = None
  dtype: DTypeLike | None = None

  @linen.compact
  def __call__(
    self,
    x: Array,
    *,
    train: modes.Train = True,
    mask: Array | None = None,
    context: Any = None,
  ) -> Array:
    """Normalises x as `Norm.apply`; training updates the statistics.

    Args:
      x: see `Norm.apply`.
      train: True, False or a `Mode`. Linen modules have no `train()` and
        `eval()`: None is True.
      mask: see `Norm.apply`.
      context: see `Norm.apply`; None: what `nn.given` says.
    """
    norm = norms.resolve(self.norm)
    if context is None:
      context = given.to(norm)
    draws = norm.needs_key and self.is_initializing()
    key = self.make_rng("params") if draws else None
    initial = norm.init(self.shape or x.shape[-1:], key=key)
    stats = {
      name: self.variable("batch_stats", name, lambda value=value: value)
      for name, value in initial["stats"].items()
    }
    grad_stats = {
      name: self.variable(
        "_overwrite_with_gradient", name, lambda value=value: value
      )
      for name, value in initial["grad_stats"].items()
    }
    variables = {
      "params": {
        name: self.param(name, lambda _, value=value: value)
        for name, value in initial["params"].items()
      },
      "stats": {name: stat.value for name, stat in stats.items()},
      "grad_stats": {name: stat.value for name, stat in grad_stats.items()},
    }
    mode = modes.resolve(train)
    if self.is_initializing():
      mode = modes.EVALUATE
    y, new_stats = norm.apply(
      variables, x, train=mode, mask=mask, context=context
    )
    if mode.update:
      for name, value in new_stats.items():
        stats[name].value = value
    return y if self.dtype is None else y.astype(self.dtype)
