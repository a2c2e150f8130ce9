"""The stream of a model: what reads it, what writes to it, and centring it.

A stream is x + F(N x) + …, a sum of what its writers give. If every one of them
gives features of mean 0, so has the stream.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.convert import folding, linear
from normjax.nn import model_roles, neighbours, roles
from normjax.nn.model_roles import STREAM
from normjax.nn.neighbours import Neighbours
from normjax.norms import moments
from normjax.types import Array

_MOST_NAMED = 3
_SEES_MEAN = ", whose output depends on the stream's mean"
_WRITE = {
  roles.Kind.KERNEL,
  roles.Kind.BIAS,
  roles.Kind.EMBEDDING,
  roles.Kind.POSITIONS,
  roles.Kind.TOKEN,
}


class Stream(NamedTuple):
  """The stream of a model that may be centred.

  Attributes:
    norms: those that read it, by path, with their readers.
    writers: paths of the variables whose last axis is its features.
  """

  norms: dict[str, Neighbours]
  writers: tuple[str, ...]


def survey(model: nnx.Module, asked: str, *, norm: str) -> Stream:
  """The stream, where each norm that reads it is of one kind.

  Args:
    model: its head is not its embedding.
    asked: what asks, for the message.
    norm: the name of the kind.

  Raises:
    UserError: the stream is no such sum, or is read by something else than
      norms of the kind and their readers; the message says by what.
  """
  norms = {k: v for k, v in neighbours.of(model).items() if v.stream}
  by_path = model_roles.of(model).by_path
  writers = tuple(
    path
    for path, role in by_path.items()
    if role.kind in _WRITE and role.axes[-1:] == (STREAM,)
  )
  found = [
    *neighbours.stream_obstacles(model),
    *_grouped(_wrong_norms(model, norms, norm)),
    *_grouped(_wrong_parameters(model, norms, by_path, writers)),
  ]
  if not (norms and writers) and not found:
    found = [
      "it says of no norm that it reads the stream, or of no parameter that it"
      " writes to it (norm_neighbours of normjax.nn.neighbours, and"
      " parameter_roles of normjax.nn.roles)"
    ]
  if found:
    raise errors.UserError(
      f"{asked}: {type(model).__name__} cannot be converted:"
      f" {errors.few(found, _MOST_NAMED, '; ')}."
    )
  return Stream(norms, writers)


def _grouped(faults: Iterable[tuple[str, str]]) -> Iterator[str]:
  """Each fault once, with the paths that have it."""
  places: dict[str, list[str]] = {}
  for path, fault in faults:
    places.setdefault(fault, []).append(path)
  for fault, paths in places.items():
    yield f"{errors.few(paths, _MOST_NAMED)}: {fault}"


def _wrong_norms(
  model: nnx.Module, norms: dict[str, Neighbours], kind: str
) -> Iterator[tuple[str, str]]:
  """Which norms that read the stream are odd, and how."""
  for path, beside in norms.items():
    layer = neighbours.module_at(model, path)
    name = layer.norm.name
    if name != kind:
      sees = "" if layer.norm.traits.shift_invariant else _SEES_MEAN
      yield path, f"{name}{sees}; needed: {kind}"
    elif beside.obstacle:
      yield path, f"cannot be folded: {beside.obstacle}"
    elif not beside.readers:
      yield path, "nothing says that linear layers alone read it"
    else:
      reason = folding.reader_obstacle(
        model, beside, jnp.zeros(()), new_biases=True
      )
      if reason:
        yield path, f"cannot be folded: {reason}"


def _wrong_parameters(
  model: nnx.Module,
  norms: dict[str, Neighbours],
  by_path: dict[str, roles.Role],
  writers: tuple[str, ...],
) -> Iterator[tuple[str, str]]:
  """Which parameters that read the stream, or write to it, are odd, and how."""
  normalized = {path for beside in norms.values() for path in beside.readers}
  for path, role in by_path.items():
    place = path.rpartition("/")[0]
    if role.kind is roles.Kind.OTHER:
      yield path, "has no role: it may write to the stream"
    if role.kind is roles.Kind.GAIN and STREAM in role.axes:
      yield path, "multiplies single features of what is added"
    if neighbours.reads_stream(role) and place not in normalized:
      yield place, "reads the stream without a norm"
  for path in writers:
    place = path.rpartition("/")[0]
    layer = neighbours.module_at(model, place)
    if by_path[path].kind is roles.Kind.EMBEDDING:
      if type(layer) is not nnx.Embed:
        yield place, f"is a {type(layer).__name__}, no nnx.Embed"
    elif by_path[path].kind is roles.Kind.KERNEL:
      if reason := linear.obstacle(layer):
        yield place, reason
      elif getattr(layer, "weight_norm", None) is not None:
        yield place, "has a norm of its kernel"


def variable_at(model: nnx.Module, path: str) -> nnx.Variable:
  """The variable of a path."""
  place, _, name = path.rpartition("/")
  return getattr(neighbours.module_at(model, place), name)


def centred(value: Array) -> Array:
  """Less its mean over the last axis, the stream's features; in its dtype."""
  wide = moments.promote(value)
  wide -= jnp.mean(wide, axis=-1, keepdims=True)
  return wide.astype(value.dtype)


def centre(model: nnx.Module, stream: Stream) -> None:
  """Centres all writers, in place: then each token's features have mean 0."""
  for path in stream.writers:
    variable = variable_at(model, path)
    linear.set_value(variable, centred(variable[...]))


def drop_last_feature(model: nnx.Module, stream: Stream) -> None:
  """Leaves out the last feature of a centred stream, in place.

  It is minus the sum of the others, which the readers' kernels then tell.
  """
  for path in stream.writers:
    variable = variable_at(model, path)
    linear.set_value(variable, variable[..., :-1])
    layer = neighbours.module_at(model, path.rpartition("/")[0])
    if isinstance(layer, nnx.Embed):
      layer.features -= 1
    elif path.endswith("kernel"):
      linear.fit_outputs(layer)
  for beside in stream.norms.values():
    for path in beside.readers:
      linear.drop_last_input(neighbours.module_at(model, path))
