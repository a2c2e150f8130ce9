"""A norm of weights as a Flax NNX module, beside the kernel it normalises."""

from flax import nnx

from normjax.nn import roles
from normjax.nn.switches import HasStatistics
from normjax.nn.variables import attach_variables, own_variables
from normjax.norms import modes, weights
from normjax.types import Array


class WeightNormLayer(HasStatistics):
  """A norm of weights with its variables, float32.

  Parameters are `nnx.Param` and statistics `NormStat` attributes, under the
  norm's own names. The kernel is the layer's.
  """

  def __init__(
    self, weight_norm: weights.WeightNormSpec, kernel: Array, *, rngs: nnx.Rngs
  ):
    """Makes the variables.

    Args:
      weight_norm: a name, a mapping with "name", or a WeightNorm.
      kernel: as it is at first.
      rngs: its `params` stream, for norms that draw; others leave it as it is.

    Raises:
      UserError: an unknown norm, a bad option, a kernel that does not fit.
    """
    self.weight_norm = weights.resolve(weight_norm)
    draws = self.weight_norm.needs_key
    attach_variables(
      self, self.weight_norm.init(kernel, rngs.params() if draws else None)
    )

  @property
  def parameter_roles(self) -> dict[str, roles.Role]:
    """See `nn.roles`."""
    site = roles.NormSite(self.weight_norm.name, of="weights")
    return roles.of_norm(self, site)

  def __call__(self, kernel: Array, *, train: modes.Train = None) -> Array:
    """The kernel that x meets; `train` is that of `NormLayer`."""
    mode = modes.resolve(train, self)
    kernel, stats = self.weight_norm.apply(
      own_variables(self), kernel, train=mode
    )
    if mode.update:
      for name, value in stats.items():
        getattr(self, name)[...] = value
    return kernel


def layer_or_none(
  weight_norm: weights.WeightNormSpec | None, kernel: Array, rngs: nnx.Rngs
) -> WeightNormLayer | None:
  """The layer, or None for None: a kernel that is taken as it is."""
  if weight_norm is None:
    return None
  return WeightNormLayer(weight_norm, kernel, rngs=rngs)
