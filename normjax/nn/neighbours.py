"""What stands beside a norm: the linear layers that it alone feeds, or reads.

A module says it of the norms that it holds, by path, as it says roles:

    class Branch(nnx.Module):
      norm_neighbours = {
        "norm": neighbours.Neighbours(readers=("up", "gate"), stream=True),
      }

A property does as well, where it depends on options. What can be folded, and
whether a stream may be centred, `normjax.convert` decides from this and from
roles. A norm of which nobody says anything stays as it is.
"""

import collections
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flax import nnx

from normjax.nn import model_roles, roles
from normjax.nn.norm_layer import NormLayer


class Neighbours(NamedTuple):
  """The linear layers beside a norm.

  Attributes:
    readers: paths of those that read what the norm gives. Nothing else may
      read it; () where something else does, or where nobody knows.
    writer: path of the one that gives what the norm reads. Nothing else may
      read that; "" where something else does.
    factor: a constant that multiplies what the norm gives, before the readers.
    stream: whether the norm reads the stream of a model: a sum of what its
      writers give, each times a number, as in x + F(N x).
    obstacle: why readers cannot take over the norm's gain and offset; "" where
      they can.
  """

  readers: tuple[str, ...] = ()
  writer: str = ""
  factor: float = 1.0
  stream: bool = False
  obstacle: str = ""

  def within(self, place: str) -> "Neighbours":
    """The same as seen from outside: paths get `place`."""
    return self._replace(
      readers=tuple(_join(place, path) for path in self.readers),
      writer=self.writer and _join(place, self.writer),
    )


Declared = Mapping[str, Neighbours]


def of(model: nnx.Module) -> dict[str, Neighbours]:
  """The neighbours of each norm layer of a model, by path.

  What an outer module says of a norm counts before what an inner one does.

  Args:
    model: any module. Norms that are no `NormLayer`, or of which no module
      says anything, are left out.

  Raises:
    TypeError: what a module says is no `Neighbours`.
  """
  modules = {
    "/".join(map(str, path)): module for path, module in nnx.iter_modules(model)
  }
  said: dict[str, Neighbours] = {}
  for place in sorted(modules, key=lambda path: -len(path)):
    said |= declared(modules[place], place)
  norms = {
    path: found
    for path, found in said.items()
    if isinstance(module_at(model, path), NormLayer)
  }
  # A module that is used in two places cannot take over what one of them has.
  places = {
    norm: [
      (part, path, id(module_at(model, path)))
      for part, paths in zip(
        ("norm", "reader", "writer"),
        ((norm,), found.readers, filter(None, [found.writer])),
        strict=True,
      )
      for path in paths
    ]
    for norm, found in norms.items()
  }
  used = collections.Counter(
    (part, module) for own in places.values() for part, _, module in own
  )
  for norm, own in places.items():
    for part, path, module in own:
      if used[part, module] > 1:
        obstacle = f"{path} is used in several places"
        norms[norm] = Neighbours(obstacle=obstacle)
  return norms


def declared(module: nnx.Module, place: str = "") -> dict[str, Neighbours]:
  """What a module says of the norms inside, with paths as seen from `place`."""
  own = getattr(module, "norm_neighbours", {})
  for path, found in own.items():
    if not isinstance(found, Neighbours):
      raise TypeError(
        f"{type(module).__name__}.norm_neighbours[{path!r}] is {found!r};"
        " allowed: a Neighbours of normjax.nn.neighbours."
      )
  return {_join(place, path): own[path].within(place) for path in own}


def fold_reader_gains(model: nnx.Module) -> list[str]:
  """Puts gains of single readers into their kernels, in place.

  A module that has some does it in a method of this name, without arguments,
  which gives the gains' names.

  Returns:
    Their paths.
  """
  return [
    _join("/".join(map(str, path)), name)
    for path, module in nnx.iter_modules(model)
    if hasattr(module, "fold_reader_gains")
    for name in module.fold_reader_gains()
  ]


def stream_obstacles(model: nnx.Module) -> Iterator[str]:
  """Why the stream is no sum of what its writers give, as modules say it.

  A module says so in `stream_obstacles`, an iterable of texts.
  """
  for path, module in nnx.iter_modules(model):
    place = "/".join(map(str, path))
    for text in getattr(module, "stream_obstacles", ()):
      yield _join(place, text)


def stream_readers(module: nnx.Module, place: str = "") -> tuple[str, ...]:
  """Paths of the layers whose kernels have the stream's features as inputs."""
  return tuple(
    _join(place, path.rpartition("/")[0])
    for path, role in model_roles.of(module).params()
    if reads_stream(role)
  )


def reads_stream(role: roles.Role) -> bool:
  """Whether a kernel's inputs are the stream's features."""
  is_kernel = role.kind is roles.Kind.KERNEL
  return is_kernel and model_roles.STREAM in role.axes[:-1]


def module_at(model: nnx.Module, path: str) -> Any:
  """What is at a path of a model, "" being the model; None: nothing."""
  found: Any = model
  for key in filter(None, path.split("/")):
    if key.isdecimal():
      found = found[int(key)]
    else:
      found = getattr(found, key, None)
  return found


def _join(place: str, path: str) -> str:
  return f"{place}/{path}".strip("/")
