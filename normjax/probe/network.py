"""A model taken apart at its stream: the beginning, the blocks, the end.

The model's own code computes each part. Blocks are the modules that sow
"stream" (`nnx.Intermediate`), as those of all residual networks here do; one's
own may do the same, where nothing but the stream goes from block to block.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.nn import calling, given, norm_sites
from normjax.nn import output as nn_output
from normjax.nn import variables as nn_variables
from normjax.nn.output import Output
from normjax.norms import modes
from normjax.types import Array

STREAM, MASS = "stream", "first_token_mass"

Path = tuple[str | int, ...]


class NoStreamError(errors.UserError):
  """A model whose modules sow no stream."""


class _ArrivedError(Exception):
  """The last block was reached: what follows is not needed."""


class _Tap(nnx.Module):
  """Stands in for a block, and asks a function in its place."""

  def __init__(self, block: nnx.Module, function: Callable[..., Array]):
    self.block, self.function = block, function

  def __call__(self, *args: Any, **kwargs: Any) -> Array:
    return self.function(*args, **kwargs)

  def __getattr__(self, name: str) -> Any:
    # What the model reads of a block, as the first one's rotation.
    if name.startswith("__") or name == "block":
      raise AttributeError(name)
    return getattr(self.block, name)


class Call(NamedTuple):
  """What a model calls a block with, beside the stream."""

  args: tuple[Any, ...]
  kwargs: Mapping[str, Any]


class Streams(NamedTuple):
  """What flows through a model.

  Attributes:
    streams: before the first block, and after each: of a transformer (b, t, d),
      of a network of images (b, y, x, c).
    masses: by block, the attention to the first real position, (h,), the mean
      over examples and queries; None where a block has no such weights.
  """

  streams: tuple[Array, ...]
  masses: tuple[Array | None, ...]


class Network:
  """A model in evaluation mode whose blocks can be called one by one.

  Attributes:
    paths: of the blocks, in the order of their calls.
  """

  def __init__(self, model: nnx.Module, inputs: Any):
    """Finds the blocks.

    Args:
      model: stays as it is; its parts are called in evaluation mode.
      inputs: of a batch. What else it gives norms, such as domains, is that of
        the `nn.given` in which the network is made.

    Raises:
      NoStreamError: no module of it sows "stream".
      UserError: one that does is called twice, or what the model raises.
    """
    self._structure, self._variables = nn_variables.split(model)
    self._inputs = inputs
    # Of the norms: an argument of what is compiled, which others share.
    self._given = given.current()
    found = _sowing(self._structure, self._variables, inputs)
    if not found:
      raise NoStreamError(
        f"{type(model).__name__} has no stream: none of its modules sows"
        f" {STREAM!r} (nnx.Intermediate), as residual blocks do."
      )
    reached: list[tuple[int, Array, Call]] = []

    def arrive(index: int, x: Array, *args: Any, **kwargs: Any) -> Array:
      reached.append((index, x, Call(args, kwargs)))
      if len(reached) == len(found):
        raise _ArrivedError
      return x

    taps = [functools.partial(arrive, i) for i in range(len(found))]
    with contextlib.suppress(_ArrivedError):
      _captured(_tapped(self._copy(), found, taps), inputs)
    order = [index for index, _, _ in reached]
    if sorted(order) != list(range(len(found))):
      raise errors.UserError(
        f"{type(model).__name__}: its blocks are not called once each."
      )
    self.paths = tuple(found[index] for index in order)
    self._calls = [call for _, _, call in reached]
    self._first = reached[0][1]
    blocks = _blocks(self._copy(), self.paths)
    self._parts = [nn_variables.split(block) for block in blocks]

  def _copy(self) -> nnx.Module:
    return nn_variables.merge(self._structure, self._variables)

  def __len__(self) -> int:
    """How many blocks it has."""
    return len(self.paths)

  @property
  def first(self) -> Array:
    """The stream before the first block."""
    return self._first

  def block(self, index: int, x: Array) -> tuple[Array, Array | None]:
    """The stream after a block, and its attention to the first position.

    Blocks of one structure are one compiled program.

    Args:
      index: of the block, from 0.
      x: the stream before it.
    """
    structure, variables = self._parts[index]
    args, kwargs = self._calls[index]
    static = {k: v for k, v in kwargs.items() if _is_static(v)}
    traced = {k: v for k, v in kwargs.items() if k not in static}
    return _run_block(
      structure, tuple(static.items()), variables, x, args, traced, self._given
    )

  def run(self) -> Streams:
    """All streams of the inputs."""
    streams, masses = [self._first], []
    for index in range(len(self)):
      x, mass = self.block(index, streams[-1])
      streams.append(x)
      masses.append(mass)
    return Streams(tuple(streams), tuple(masses))

  def after(self, index: int, x: Array) -> Array:
    """The last stream, where x is the one before block `index`."""
    for each in range(index, len(self)):
      x, _ = self.block(each, x)
    return x

  def end(self, x: Array) -> Output:
    """What the model returns where x is its last stream."""
    return _run_end(
      self._structure, self.paths, self._variables, self._inputs, x, self._given
    )


def _blocks(model: nnx.Module, paths: Sequence[Path]) -> list[nnx.Module]:
  by_path = dict(nnx.iter_modules(model))
  return [by_path[path] for path in paths]


def _tapped(
  model: nnx.Module,
  paths: Sequence[Path],
  functions: Sequence[Callable[..., Array]],
) -> nnx.Module:
  """The model with functions in place of its blocks."""
  blocks = _blocks(model, paths)
  return norm_sites.replace(
    model,
    {
      id(block): _Tap(block, function)
      for block, function in zip(blocks, functions, strict=True)
    },
  )


def _captured(model: nnx.Module, inputs: Any) -> tuple[Any, Any]:
  """(returned, intermediates); captured, layers are not looped over."""
  return nnx.capture(
    lambda model: calling.call(model, inputs, train=False), nnx.Intermediate
  )(model)


def _sowing(structure, variables, inputs) -> list[Path]:
  """Paths of the modules that sow a stream."""

  def sown(variables, inputs):
    model = nn_variables.merge(structure, variables)
    return nnx.to_pure_dict(_captured(model, inputs)[1])

  shapes = jax.eval_shape(sown, variables, inputs)
  return [
    tuple(_key(entry) for entry in path[: _depth(path)])
    for path, _ in jax.tree.leaves_with_path(shapes)
    if STREAM in map(_key, path)
  ]


def _depth(path) -> int:
  return [_key(entry) for entry in path].index(STREAM)


def _key(entry: Any) -> str | int:
  return getattr(entry, "key", getattr(entry, "idx", None))


def _is_static(value: Any) -> bool:
  return value is None or isinstance(value, bool | str | modes.Mode)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_end(structure, paths, variables, inputs, x, context) -> Output:
  # What makes the stream is dead code, which XLA removes.
  model = nn_variables.merge(structure, variables)
  taps = [lambda *args, **kwargs: x] * len(paths)
  with given.context(context):
    returned, _ = _captured(_tapped(model, paths, taps), inputs)
  return nn_output.as_output(returned)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_block(structure, static, variables, x, args, traced, context):
  block = nn_variables.merge(structure, variables)
  call = nnx.capture(
    lambda block: block(x, *args, **dict(static), **traced), nnx.Intermediate
  )
  with given.context(context):
    out, sown = call(block)
  masses = [
    leaf
    for path, leaf in jax.tree.leaves_with_path(nnx.to_pure_dict(sown))
    if MASS in map(_key, path)
  ]
  return out, jnp.concatenate(masses) if masses else None
