"""What a parameter is: the words in which modules say it of theirs.

A module says in one place what its own parameters are, and of parameters
further inside what it knows better than they do:

    class FeedForward(nnx.Module):
      parameter_roles = {
        "up/kernel": roles.kernel("embed", "mlp"),
        "up_scale": roles.gain("embed"),
      }

A property does as well, where it depends on options. A model says which layers
are its two ends: `end_layers = roles.Ends("stem", "head")`. `model_roles` reads
it all.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from flax import nnx

from normjax.optim.dims import MatrixDims

Layer = Literal["input", "hidden", "output"]
Axes = tuple[str | None, ...]


class Kind(enum.StrEnum):
  """What a variable does in its module."""

  KERNEL = "kernel"
  ENTRIES = "matrix entries"  # Of a matrix, held apart: no matrix itself.
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
TABLE_KINDS = frozenset({Kind.EMBEDDING, Kind.POSITIONS})


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
    return self.dims is not None or self.kind is Kind.ENTRIES

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
  return Role(Kind.KERNEL, matrix(len(axes), outputs), axes)


def conv(inputs: str = "in", outputs: str = "out") -> Role:
  """The HWIO kernel of a convolution of images: one matrix, (h w i, o)."""
  return kernel("height", "width", inputs, outputs)


def embedding(rows: str, features: str) -> Role:
  """A table with a vector in each row; each is a unit."""
  return Role(Kind.EMBEDDING, MatrixDims(-1, -2), (rows, features))


def positions(rows: str, features: str) -> Role:
  """A table of learned positions, as `embedding`."""
  return Role(Kind.POSITIONS, MatrixDims(-1, -2), (rows, features))


def entries() -> Role:
  """Entries of a matrix, in a row."""
  return Role(Kind.ENTRIES, None, (None,))


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
      dims = matrix(2) if name in kernels else None
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


def matrix(ndim: int, outputs: int = 1) -> MatrixDims:
  """The last axes as outputs, those before them as inputs."""
  return MatrixDims(tuple(range(-ndim, -outputs)), tuple(range(-outputs, 0)))
