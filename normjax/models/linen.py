"""A Linen module as a model: its variables, its streams, its parameters' roles.

    from normjax import models

    def net(num_classes):
      return models.from_linen(MyLinen(num_classes))

A config names it: `model.name=my_module:net`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax import linen, nnx
from flax.linen import linear
from flax.nnx import bridge

from normjax import norms
from normjax.nn import calling, roles
from normjax.nn.linen import LinenNorm
from normjax.optim.dims import MatrixDims
from normjax.types import Array

# ----- What Linen's layers are -----


def _dense(layer: linen.Dense) -> roles.Declared:
  del layer
  return {"kernel": roles.kernel("in", "out"), "bias": roles.bias("out")}


def _dense_general(layer: linen.DenseGeneral) -> roles.Declared:
  inputs, outputs = map(_count, (layer.axis, layer.features))
  axes = ("in",) * inputs + ("out",) * outputs
  return {
    "kernel": roles.kernel(*axes, outputs=outputs),
    "bias": roles.bias(*axes[inputs:]),
  }


def _conv(layer: Any) -> roles.Declared:
  window = (None,) * _count(layer.kernel_size)
  return {
    "kernel": roles.kernel(*window, "in", "out"),
    "bias": roles.bias("out"),
  }


def _conv_transpose(layer: linen.ConvTranspose) -> roles.Declared:
  said = dict(_conv(layer))
  if layer.transpose_kernel:
    window = (None,) * _count(layer.kernel_size)
    ndim = len(window) + 2
    dims = MatrixDims((*range(-ndim, -2), -1), -2)
    said["kernel"] = roles.Role(roles.Kind.KERNEL, dims, (*window, "out", "in"))
  return said


def _embed(layer: linen.Embed) -> roles.Declared:
  del layer
  return {"embedding": roles.embedding("vocab", "embed")}


def _norm(layer: Any) -> roles.Declared:
  return _of_norm(type(layer).__name__)


def _our_norm(layer: LinenNorm) -> roles.Declared:
  norm = norms.resolve(layer.norm)
  shape = layer.shape or (1,)
  try:
    names = norm.init(shape)["params"]
  except Exception:  # Its shape is not known here; these two are.
    names = {}
  return _of_norm(norm.name, names)


def _of_norm(
  name: str, others: Mapping[str, Any] | None = None
) -> roles.Declared:
  site = roles.NormSite(name)
  kinds = dict.fromkeys(others or {}, roles.Kind.NORM_OTHER)
  kinds |= {"scale": roles.Kind.NORM_SCALE, "bias": roles.Kind.NORM_BIAS}
  return {key: roles.Role(kind, norm=site) for key, kind in kinds.items()}


def _count(sizes: Any) -> int:
  return 1 if isinstance(sizes, int) else len(sizes)


_MATRICES: tuple[tuple[type, Callable[[Any], roles.Declared]], ...] = (
  (linen.Dense, _dense),
  (linen.DenseGeneral, _dense_general),
  (linear._Conv, _conv),
  (linen.ConvTranspose, _conv_transpose),
  (linen.Embed, _embed),
)
_NORMS: tuple[tuple[type, Callable[[Any], roles.Declared]], ...] = (
  (linen.LayerNorm, _norm),
  (linen.RMSNorm, _norm),
  (linen.BatchNorm, _norm),
  (linen.GroupNorm, _norm),
  (linen.InstanceNorm, _norm),
  (LinenNorm, _our_norm),
)


# ----- The model -----


class FromLinen(bridge.ToNNX):
  """Flax's bridge, called as models are; see `from_linen`."""

  # Attributes of other names would be Linen's variables.
  def __init__(self, module: linen.Module, end_layers: roles.Ends | None):
    super().__init__(module)
    self.to_nnx__roles: tuple[tuple[str, roles.Role], ...] = ()
    self.to_nnx__ends = end_layers
    self.to_nnx__deterministic = False

  def __call__(
    self,
    inputs: Array,
    *,
    train: bool | None = None,
    key: Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Any:
    """What the Linen module returns; training moves its statistics.

    Args:
      inputs: its first argument.
      train: given to it as `train`, `training` or `is_training`, or turned
        round as `deterministic` or `use_running_average`, where it takes such
        a word. None: as `train()` and `eval()` left it.
      key: of all its streams: `rngs={"params": key}` of `apply`.
      rngs: of the initialization.
    """
    train = not self.to_nnx__deterministic if train is None else train
    options = calling.linen_options(self, train=train, key=key)
    if self._pytree__state.initializing:
      del options["mutable"]
      options["rngs"] = rngs
    return super().__call__(inputs, **options)

  def initialize(self, inputs: Any, rngs: nnx.Rngs) -> None:
    """Makes the variables; what it calls says what they are."""
    seen: dict[str, roles.Declared] = {}
    matrices: list[str] = []

    def intercept(call, args, options, context):
      for path, said, is_matrix in _declared(context.module):
        seen.setdefault(path, said)
        matrices.extend([path] * is_matrix)
      return call(*args, **options)

    with linen.intercept_methods(intercept):
      bridge.lazy_init(self, inputs, train=False, rngs=rngs)
    found: dict[str, roles.Role] = {}
    for place, said in sorted(seen.items(), reverse=True):
      found |= roles.within(place, said)
    self.to_nnx__roles = tuple(found.items())
    if self.to_nnx__ends is None and matrices:
      self.to_nnx__ends = roles.Ends(matrices[0], matrices[-1])

  @property
  def parameter_roles(self) -> roles.Declared:
    """Of all its layers, from the types of Linen's."""
    return dict(self.to_nnx__roles)

  @property
  def end_layers(self) -> roles.Ends | None:
    """The first and the last layer with a matrix that a call reads."""
    return self.to_nnx__ends

  @property
  def deterministic(self) -> bool:
    """What `train()` and `eval()` switch."""
    return self.to_nnx__deterministic

  def _setattr(self, name: str, value: Any) -> None:
    if name == "deterministic":
      name = "to_nnx__deterministic"
    super()._setattr(name, value)


def _declared(
  module: linen.Module,
) -> Iterator[tuple[str, roles.Declared, bool]]:
  path = "/".join(module.path)
  for kinds, is_matrix in ((_MATRICES, True), (_NORMS, False)):
    for kind, say in kinds:
      if isinstance(module, kind):
        yield path, say(module), is_matrix


def from_linen(
  module: linen.Module,
  inputs: Any = None,
  *,
  rngs: nnx.Rngs | None = None,
  end_layers: roles.Ends | None = None,
) -> FromLinen:
  """A Linen module as a model.

  Parameters keep Linen's names ("Dense_0/kernel"). "batch_stats" and other
  collections are carried as statistics, "_overwrite_with_gradient" (as of
  `nn.linen.LinenNorm`) as those of the backward pass. Dropout draws from the
  key of the step. What a parameter is, the types of Linen's layers say:
  optimizers route, decay and freeze by it.

  Args:
    module: called as `module(inputs)`, with one of `train`, `training`,
      `is_training`, `deterministic` and `use_running_average` if it takes one.
    inputs: arrays as the data gives them, to make the variables from. None:
      a run makes them, from a first example.
    rngs: of the initialization; None: nnx.Rngs(0).
    end_layers: paths of the layers that read the data and that give the output,
      `roles.Ends("Conv_0", "Dense_1")`. None: the first and the last layer with
      a matrix that a call reads.
  """
  model = FromLinen(module, end_layers)
  if inputs is not None:
    model.initialize(inputs, nnx.Rngs(0) if rngs is None else rngs)
  return model
