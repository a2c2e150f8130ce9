"""Any norm as a Flax NNX module: the only place where NNX meets norms."""

from typing import Any

import jax
from flax import nnx
from jax.typing import DTypeLike

from normjax import norms
from normjax.nn import given, roles
from normjax.nn.switches import HasStatistics
from normjax.nn.variables import attach_variables, own_variables
from normjax.norms import modes
from normjax.types import Array


class NormLayer(HasStatistics):
  """A norm with its variables.

  Parameters are `nnx.Param`, running statistics `NormStat` and statistics of
  the backward pass `GradStat` attributes, under the norm's own names. They are
  float32 whatever the compute dtype, but for int32 counters.
  """

  def __init__(
    self,
    norm: norms.NormSpec,
    shape: tuple[int, ...],
    *,
    dtype: DTypeLike | None = None,
    scale_init: nnx.Initializer | None = None,
    bias_init: nnx.Initializer | None = None,
    rngs: nnx.Rngs | None = None,
  ):
    """Makes the variables.

    Args:
      norm: a name, a mapping with "name", or a Norm.
      shape: the feature shape, (d,) or (h, w, c).
      dtype: of the output; None keeps the input's.
      scale_init: how the parameter `scale` starts, in a norm that has one;
        None: as the norm says. Draws from `rngs`.
      bias_init: the same for the parameter `bias`.
      rngs: its `params` stream, for norms that draw (`Norm.needs_key`); others
        leave it as it is. Without it such norms start equal.

    Raises:
      UserError: an unknown norm, a bad option or shape.
    """
    self.norm = norms.resolve(norm)
    self.dtype = dtype
    draws = self.norm.needs_key and rngs is not None
    made = self.norm.init(shape, key=rngs.params() if draws else None)
    params = made["params"]
    for name, start in (("scale", scale_init), ("bias", bias_init)):
      if start is not None and name in params:
        key = jax.random.key(0) if rngs is None else rngs.params()
        params[name] = start(key, params[name].shape, params[name].dtype)
    attach_variables(self, made)

  def __call__(
    self,
    x: Array,
    *,
    train: modes.Train = None,
    mask: Array | None = None,
    context: Any = None,
  ) -> Array:
    """Normalises x as `Norm.apply`, and keeps what the statistics become.

    Args:
      x: see `Norm.apply`.
      train: True, False or a `Mode`; None: what `train()` and `eval()` of this
        module, or of one that holds it, said last; at first True.
      mask: see `Norm.apply`.
      context: see `Norm.apply`; None: what `nn.given` says.
    """
    mode = modes.resolve(train, self)
    if context is None:
      context = given.to(self.norm)
    y, stats = self.norm.apply(
      own_variables(self), x, train=mode, mask=mask, context=context
    )
    if mode.update:
      for name, value in stats.items():
        getattr(self, name)[...] = value
    return y if self.dtype is None else y.astype(self.dtype)

  @property
  def parameter_roles(self) -> dict[str, roles.Role]:
    """See `nn.roles`."""
    site = roles.NormSite(self.norm.name)
    return roles.of_norm(self, site, self.norm.kernels)

  def context_for_next(
    self, x: Array, *, branch_gain: Array | float, mask: Array | None = None
  ) -> Any:
    """What the next site gets as `context`: see `Norm.context_for_next`."""
    return self.norm.context_for_next(
      own_variables(self), x, branch_gain=branch_gain, mask=mask
    )
