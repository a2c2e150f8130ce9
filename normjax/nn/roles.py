"""What each parameter of a model is, read from the types of its modules.

A module says in one place what its own parameters are, and of parameters
further inside what it knows better than they do:

    class FeedForward(nnx.Module):
      parameter_roles = {
        "up/kernel": roles.kernel("embed", "mlp"),
        "up_scale": roles.gain("embed"),
      }

A property does as well, where it depends on options. A model says which layers
are its two ends: `end_layers = roles.Ends("stem", "head")`. Layers of Flax are
known here. What nobody says anything of has the kind "other", and is treated as
`normjax.optim` treats trees that it does not know: by its name.
"""

import dataclasses
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
from flax import nnx

from normjax import errors
from normjax.optim import dims as dims_lib
from normjax.optim import groups
from normjax.optim.dims import MatrixDims
from normjax.optim.sign_constrained import non_negative_mask
from normjax.types import PyTree

Layer = Literal["input", "hidden", "output"]
Axes = tuple[str | None, ...]
# Of leaves that hold several layers, as Flax's scans stack them.
STACKED = "layers"


class Kind(enum.StrEnum):
  """What a variable does in its module."""

  KERNEL = "kernel"
  BIAS = "bias"
  NORM_SCALE = "norm scale"
  NORM_BIAS = "norm bias"
  NORM_OTHER = "norm parameter"  # Of a norm, and neither of the two.
  GAIN = "gain"  # A learned factor that is no norm's.
  EMBEDDING = "embedding"
  POSITIONS = "positions"  # A table of learned positions.
  TOKEN = "token"  # A learned token, such as the class token.
  STATISTIC = "statistic"
  OTHER = "other"


NORM_KINDS = frozenset({Kind.NORM_SCALE, Kind.NORM_BIAS, Kind.NORM_OTHER})
_TABLES = frozenset({Kind.EMBEDDING, Kind.POSITIONS})


class NormSite(NamedTuple):
  """The norm that a variable belongs to.

  Attributes:
    name: in the table of norms, or the name of Flax's class.
    path: of the module that holds it.
    of: what it normalises.
  """

  name: str
  path: str = ""
  of: Literal["activations", "weights"] = "activations"


class Ends(NamedTuple):
  """Paths of the layers that read the data and that give the output."""

  input: str
  output: str


@dataclasses.dataclass(frozen=True)
class Role:
  """What a variable is.

  Attributes:
    kind: see `Kind`.
    dims: the axes of a matrix, counted from the last; None for what is none.
    axes: a name per axis, as "embed", "heads" or "vocab"; None: it has none.
    layer: whether it is of the layer that reads the data or of the one that
      gives the output; a norm that is part of them is "hidden".
    norm: the norm that it belongs to.
    non_negative: whether it has no meaning below 0.
  """

  kind: Kind
  dims: MatrixDims | None = None
  axes: Axes = ()
  layer: Layer = "hidden"
  norm: NormSite | None = None
  non_negative: bool = False

  @property
  def decays(self) -> bool:
    """Whether a weight decay is meant for it: matrices and tables."""
    return self.dims is not None

  def __str__(self) -> str:
    kind = str(self.kind)
    if self.layer != "hidden" and self.norm is None:
      kind = f"{self.layer} {kind}"
    return kind if self.norm is None else f"{kind} ({self.norm.name})"


# Roles by name, or by path, of a module's parameters.
Declared = Mapping[str, Role]


# ----- What modules say -----


def kernel(*axes: str | None, outputs: int = 1) -> Role:
  """A kernel, inputs first.

  Args:
    *axes: a name per axis.
    outputs: how many of them, at the end, are outputs.
  """
  return Role(Kind.KERNEL, _matrix(len(axes), outputs), axes)


def conv(inputs: str = "in", outputs: str = "out") -> Role:
  """The HWIO kernel of a convolution of images: one matrix, (h w i, o)."""
  return kernel("height", "width", inputs, outputs)


def embedding(rows: str, features: str) -> Role:
  """A table with a vector in each row; each is a unit."""
  return Role(Kind.EMBEDDING, MatrixDims(-1, -2), (rows, features))


def positions(rows: str, features: str) -> Role:
  """A table of learned positions, as `embedding`."""
  return Role(Kind.POSITIONS, MatrixDims(-1, -2), (rows, features))


def bias(*axes: str | None) -> Role:
  """What is added; no axes: one number."""
  return Role(Kind.BIAS, None, axes)


def gain(*axes: str | None) -> Role:
  """What multiplies outside of a norm; no axes: one number."""
  return Role(Kind.GAIN, None, axes)


def token(*axes: str) -> Role:
  """A learned token."""
  return Role(Kind.TOKEN, None, axes)


def of_norm(
  layer: nnx.Module, site: NormSite, kernels: Iterable[str] = ()
) -> dict[str, Role]:
  """The roles of a norm's variables: `scale`, `bias` and the paper's own.

  Args:
    layer: the module that holds them as attributes.
    site: the norm. The parameters of a norm of weights are gains.
    kernels: names of parameters that are matrices, (inputs, outputs).
  """
  kinds = {"scale": Kind.NORM_SCALE, "bias": Kind.NORM_BIAS}
  if site.of == "weights":
    kinds = {"gain": Kind.GAIN}
  found = {}
  for name, variable in vars(layer).items():
    if isinstance(variable, nnx.Param):
      dims = _matrix(2, 1) if name in kernels else None
      kind = kinds.get(name, Kind.NORM_OTHER)
      found[name] = Role(kind, dims, norm=site)
    elif isinstance(variable, nnx.Variable):
      found[name] = Role(Kind.STATISTIC, norm=site)
  return found


def within(place: str, said: Declared) -> dict[str, Role]:
  """The roles as seen from outside: paths, those of norms too, get `place`."""

  def join(path: str) -> str:
    return f"{place}/{path}".strip("/")

  found = {}
  for path, role in said.items():
    if role.norm is not None:
      site = role.norm._replace(path=join(role.norm.path))
      role = dataclasses.replace(role, norm=site)
    found[join(path)] = role
  return found


def _matrix(ndim: int, outputs: int) -> MatrixDims:
  return MatrixDims(tuple(range(-ndim, -outputs)), tuple(range(-outputs, 0)))


# ----- What Flax's layers are -----


def _linear(layer: nnx.Linear) -> dict[str, Role]:
  del layer
  return {"kernel": kernel("in", "out"), "bias": bias("out")}


def _linear_general(layer: nnx.LinearGeneral) -> dict[str, Role]:
  # Flax puts the batched axes first, then inputs, then outputs.
  inputs, outputs = (
    (sizes,) if isinstance(sizes, int) else sizes
    for sizes in (layer.in_features, layer.out_features)
  )
  axes = ("in",) * len(inputs) + ("out",) * len(outputs)
  return {
    "kernel": kernel(*axes, outputs=len(outputs)),
    "bias": bias(*axes[len(inputs) :]),
  }


def _conv(layer: nnx.Conv) -> dict[str, Role]:
  window = (None,) * len(layer.kernel_size)
  return {"kernel": kernel(*window, "in", "out"), "bias": bias("out")}


def _conv_transpose(layer: nnx.ConvTranspose) -> dict[str, Role]:
  window = (None,) * len(layer.kernel_size)
  if not layer.transpose_kernel:
    return {"kernel": kernel(*window, "in", "out"), "bias": bias("out")}
  ndim = len(window) + 2
  dims = MatrixDims((*range(-ndim, -2), -1), -2)
  role = Role(Kind.KERNEL, dims, (*window, "out", "in"))
  return {"kernel": role, "bias": bias("out")}


def _embed(layer: nnx.Embed) -> dict[str, Role]:
  del layer
  return {"embedding": embedding("vocab", "embed")}


def _flax_norm(layer: nnx.Module) -> dict[str, Role]:
  return of_norm(layer, NormSite(type(layer).__name__))


_FLAX: tuple[tuple[type, Callable[[Any], dict[str, Role]]], ...] = (
  (nnx.Linear, _linear),
  (nnx.LinearGeneral, _linear_general),
  (nnx.Conv, _conv),
  (nnx.ConvTranspose, _conv_transpose),
  (nnx.Embed, _embed),
  (nnx.LayerNorm, _flax_norm),
  (nnx.RMSNorm, _flax_norm),
  (nnx.BatchNorm, _flax_norm),
  (nnx.GroupNorm, _flax_norm),
  (nnx.InstanceNorm, _flax_norm),
)


def _declared(module: nnx.Module) -> dict[str, Role]:
  """What a module's class, and those that it is derived from, say."""
  said: dict[str, Role] = {}
  for kind, roles in _FLAX:
    if isinstance(module, kind):
      said |= roles(module)
  for kind in reversed(type(module).__mro__):
    roles = vars(kind).get("parameter_roles", {})
    said |= roles.fget(module) if isinstance(roles, property) else roles
  return said


# ----- The roles of a model -----


def of(model: nnx.Module) -> "Roles":
  """The roles of a model's variables; shapes will do for arrays.

  What an outer module says of a variable counts before what an inner one does.

  Args:
    model: any module. Without `end_layers`, its output layer is what is called
      so, as `head` or `classifier`.

  Raises:
    UserError: a role whose axes the variable does not have.
  """
  variables = {
    "/".join(map(str, path)): variable
    for path, variable in nnx.to_flat_state(nnx.state(model))
  }
  ndims = {path: leaf.get_value().ndim for path, leaf in variables.items()}
  said: dict[str, Role] = {}
  modules = sorted(nnx.iter_modules(model), key=lambda item: -len(item[0]))
  for prefix, module in modules:
    place = "/".join(map(str, prefix))
    for path, role in within(place, _declared(module)).items():
      if path in ndims:
        said[path] = _fit(role, path, ndims[path])
  ends = getattr(model, "end_layers", None)
  by_path = {}
  for path, variable in variables.items():
    is_param = isinstance(variable, nnx.Param)
    unsaid = Role(Kind.OTHER if is_param else Kind.STATISTIC)
    role = said.get(path) or _fit(unsaid, path, ndims[path])
    if role.kind not in NORM_KINDS:
      role = dataclasses.replace(role, layer=_layer(path, ends))
    by_path[path] = role
  return Roles(type(model).__name__, by_path)


def _fit(role: Role, path: str, ndim: int) -> Role:
  """The role with a name per axis of the leaf."""
  axes: Axes = role.axes or (None,) * (2 if role.dims else ndim)
  if role.dims is None:
    # A factor may be one number or one per feature.
    axes = axes[max(len(axes) - ndim, 0) :]
  if len(axes) > ndim:
    raise errors.UserError(
      f"the role of {path!r} names the axes {axes}; the parameter has {ndim}."
    )
  axes = (STACKED,) * (ndim - len(axes)) + axes
  return dataclasses.replace(role, axes=axes)


def _layer(path: str, ends: Ends | None) -> Layer:
  if ends is None:
    return "output" if re.fullmatch(groups.HEAD_NAMES, path) else "hidden"
  for layer, end in ends._asdict().items():
    if path == end or path.startswith(f"{end}/"):
      return layer
  return "hidden"


@dataclasses.dataclass(frozen=True, eq=False)
class Roles:
  """The roles of a model's variables.

  Attributes:
    model: the name of its class, for messages.
    by_path: by paths as `nn.variables.split` makes them.
  """

  model: str
  by_path: Mapping[str, Role]

  def params(self) -> Iterator[tuple[str, Role]]:
    """(path, role) of the parameters."""
    for path, role in self.by_path.items():
      if role.kind is not Kind.STATISTIC:
        yield path, role

  def __getitem__(self, path: str) -> Role:
    """The role of a variable.

    Raises:
      UserError: the model has none of that path.
    """
    if path not in self.by_path:
      raise errors.UserError(f"{self.model} has no variable {path!r}.")
    return self.by_path[path]

  def decay_mask(self, params: PyTree) -> PyTree:
    """What the option `mask` of an optimizer takes."""
    return self._tree(params, lambda role: role.decays, groups.decay_mask)

  def non_negative_mask(self, params: PyTree) -> PyTree:
    """What the option `non_negative` of an optimizer takes."""
    return self._tree(params, lambda role: role.non_negative, non_negative_mask)

  def outputs(self) -> str:
    """The pattern `exempt` of an optimizer: paths of the output layer."""
    return self._pattern(lambda role: role.layer == "output", groups.HEAD_NAMES)

  def tables(self) -> str:
    """The pattern `keep` of an optimizer: paths of embeddings."""
    return self._pattern(
      lambda role: role.kind in _TABLES, groups.EMBEDDING_NAMES
    )

  @property
  def dims(self) -> dims_lib.Matrices:
    """What the option `dims` of an optimizer takes."""
    by_name = dims_lib.default_dims
    return dims_lib.Matrices(
      hidden=lambda params: self._tree(params, _hidden, by_name),
      channels=lambda params: self._tree(
        params, lambda role: role.dims, dims_lib.channel_dims
      ),
      inner=lambda params: self._tree(params, _inner, by_name),
    )

  def _pattern(self, takes: Callable[[Role], bool], by_name: str) -> str:
    """A pattern of the paths that it takes, and of no others."""
    chosen = [
      re.escape(path)
      for path, role in self.params()
      if (re.fullmatch(by_name, path) if _is_other(role) else takes(role))
    ]
    return "|".join(chosen) or "(?!)"

  def _tree(
    self,
    params: PyTree,
    answer: Callable[[Role], Any],
    by_name: Callable[[PyTree], PyTree],
  ) -> PyTree:
    """The answer for each leaf; that of its name where there is no role."""
    found = [self[path] for path, _ in groups.leaves(params)]
    structure = jax.tree.structure(params)
    named: list[Any] = []
    if any(map(_is_other, found)):
      named = structure.flatten_up_to(by_name(params))
    return structure.unflatten(
      named[n] if _is_other(role) else answer(role)
      for n, role in enumerate(found)
    )


def _is_other(role: Role) -> bool:
  return role.kind is Kind.OTHER


def _hidden(role: Role) -> MatrixDims | None:
  """The matrices of the first layer and of the hidden ones."""
  outer = role.layer == "output" or role.kind in _TABLES
  return None if outer else role.dims


def _inner(role: Role) -> MatrixDims | None:
  """Those of the hidden layers alone."""
  return None if role.layer == "input" else _hidden(role)
