"""What a program is compiled to for several members: a step under `jax.vmap`.

Each array of the state gets an axis for the members in front. A small model
on a GPU waits for its kernels to start: sixteen members take nearly as many
of them as one. What is not batched is in `shared`. A member that does not go
along is frozen: the step computes it with the others and keeps what it had.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from normjax import build, configure
from normjax.train import compiled as compiled_lib
from normjax.train import program as program_lib
from normjax.train import step as train_step
from normjax.train.population import shared
from normjax.train.state import State
from normjax.types import PyTree

# Of a device's memory, for what a compiler's count leaves out.
USABLE_FRACTION = 0.9


class Compiled(NamedTuple):
  """The functions of a population of one size.

  Attributes:
    size: places of members.
    step: (state, batch, hyper, is_going) -> (state, metrics); donates the
      state.
    evaluate: (state, batch, hyper) -> sums.
    peak_bytes: of a step: arguments, temporaries and outputs.
    compile_s: what compiling them took.
  """

  size: int
  step: Any
  evaluate: Any
  peak_bytes: int
  compile_s: float

  @property
  def flops_per_step(self) -> float | None:
    """Of one member, by the compiler's count."""
    flops = compiled_lib.flops(self.step)
    return None if flops is None else flops / self.size


class Together:
  """What is known of a program's populations, of any size.

  Attributes:
    program: of one member.
    shared: what its members have in common.
  """

  def __init__(self, program: compiled_lib.Program):
    """Finds what is shared; compiles nothing."""
    start_s = time.perf_counter()
    self.program = program
    recipe = program.recipe
    self._step = program.layout.traced(
      functools.partial(train_step.train_step, recipe)
    )
    self._evaluate = program.layout.traced(
      functools.partial(train_step.evaluation_step, recipe)
    )
    batch, _, hyper = program.abstract
    self.shared = shared.find(
      recipe.start, self._step, program.abstract_state, batch, hyper
    )
    leaves, self._structure = jax.tree.flatten(program.abstract_state)
    self._axes = shared.state_axes(len(leaves), self.shared.leaves)
    self._compiled: dict[tuple[int, bool, bool], Compiled] = {}
    self._take = jax.jit(
      self._member,
      out_shardings=jax.tree.map(lambda x: x.sharding, program.abstract_state),
    )
    self._unbilled_s = time.perf_counter() - start_s

  def get(
    self, size: int, *, same_batches: bool, same_evaluation: bool
  ) -> Compiled:
    """The compiled functions.

    Args:
      size: places of members.
      same_batches: whether all members train on the same batches.
      same_evaluation: whether they are evaluated on the same.
    """
    key = size, same_batches, same_evaluation
    if key not in self._compiled:
      self._compiled[key] = self._compile(*key)
      self._unbilled_s += self._compiled[key].compile_s
    return self._compiled[key]

  def bill_s(self) -> float:
    """Seconds of compilation since the last call, the program's own too."""
    seconds, self._unbilled_s = self._unbilled_s, 0.0
    return seconds + self.program.bill_s()

  def stack(self, states: Sequence[State], first: State) -> State:
    """The state of a population, on the devices.

    Args:
      states: of each place.
      first: the one whose shared leaves are taken.
    """
    each = zip(self._axes, *map(jax.tree.leaves, [first, *states]), strict=True)
    stacked = [
      _of_numbers(
        _numbers(leaf)
        if axis is None
        else np.stack([_numbers(x) for x in members]),
        leaf,
      )
      for axis, leaf, *members in each
    ]
    return self.put(self._structure.unflatten(stacked))

  def shared_of(self, state: State) -> list[np.ndarray]:
    """What a member's state has of what is shared."""
    leaves = jax.tree.leaves(state)
    return [_numbers(leaves[n]) for n in sorted(self.shared.leaves)]

  def with_shared(self, state: State, values: Sequence[np.ndarray]) -> State:
    """The state of a population, with other values of what is shared.

    Args:
      state: of a population.
      values: as `shared_of` gives them.
    """
    leaves = jax.tree.leaves(state)
    for n, value in zip(sorted(self.shared.leaves), values, strict=True):
      leaves[n] = self.put(_of_numbers(value, leaves[n]))
    return self._structure.unflatten(leaves)

  def take(self, state: State, place: int) -> State:
    """The state of one member, as its program alone has it."""
    return self._take(state, jnp.int32(place))

  def put(self, tree: PyTree) -> PyTree:
    """Puts arrays on the devices."""
    return jax.device_put(tree, self.program.layout.everywhere)

  def _member(self, state: State, place: jax.Array) -> State:
    leaves = jax.tree.leaves(state)
    return self._structure.unflatten(
      leaf
      if axis is None
      else jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False)
      for axis, leaf in zip(self._axes, leaves, strict=True)
    )

  def mapped(
    self, *, same_batches: bool, same_evaluation: bool
  ) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The step and the evaluation of all members; see `Compiled`."""
    axes = self._structure.unflatten(self._axes)
    over = {
      name: None if name in self.shared.scalars else 0
      for name in self.program.abstract.hyper
    }

    def train_step(state, batch, hyper, is_going):
      new, metrics = self._step(state, batch, hyper)
      kept = (
        leaf if axis is None else jnp.where(is_going, leaf, old)
        for axis, leaf, old in zip(
          self._axes, jax.tree.leaves(new), jax.tree.leaves(state), strict=True
        )
      )
      return self._structure.unflatten(kept), metrics

    batches, evaluated = (
      None if same else 0 for same in (same_batches, same_evaluation)
    )
    return (
      jax.vmap(
        train_step, in_axes=(axes, batches, over, 0), out_axes=(axes, 0)
      ),
      jax.vmap(self._evaluate, in_axes=(axes, evaluated, over)),
    )

  def arguments(
    self, size: int, *, same_batches: bool, same_evaluation: bool
  ) -> tuple[State, compiled_lib.Arguments]:
    """What the mapped functions are given, in shapes."""

    def stacked(leaf, axis=0):
      shape = leaf.shape if axis is None else (size, *leaf.shape)
      return jax.ShapeDtypeStruct(
        shape, leaf.dtype, sharding=self.program.layout.everywhere
      )

    batch, evaluation_batch, hyper = self.program.abstract
    leaves = jax.tree.leaves(self.program.abstract_state)
    return (
      self._structure.unflatten(map(stacked, leaves, self._axes)),
      compiled_lib.Arguments(
        batch if same_batches else jax.tree.map(stacked, batch),
        evaluation_batch
        if same_evaluation
        else jax.tree.map(stacked, evaluation_batch),
        {
          name: stacked(leaf, None if name in self.shared.scalars else 0)
          for name, leaf in hyper.items()
        },
      ),
    )

  def _compile(
    self, size: int, same_batches: bool, same_evaluation: bool
  ) -> Compiled:
    start_s = time.perf_counter()
    kinds = {"same_batches": same_batches, "same_evaluation": same_evaluation}
    step, evaluate = self.mapped(**kinds)
    state, (batch, evaluation_batch, hyper) = self.arguments(size, **kinds)
    everywhere = self.program.layout.everywhere
    is_going = jax.ShapeDtypeStruct((size,), bool, sharding=everywhere)
    options = {"out_shardings": everywhere}
    step = (
      jax.jit(step, donate_argnums=0, **options)
      .lower(state, batch, hyper, is_going)
      .compile(self.program.compiler_options)
    )
    evaluate = (
      jax.jit(evaluate, **options)
      .lower(state, evaluation_batch, hyper)
      .compile()
    )
    seconds = time.perf_counter() - start_s
    return Compiled(
      size, step, evaluate, compiled_lib.peak_bytes(step), seconds
    )


_TOGETHER: dict[str, Together] = {}


def get(config: configure.ConfigDict) -> Together:
  """What is known of the populations of a config's program."""
  key = build.program_key(config)
  if key not in _TOGETHER:
    _TOGETHER[key] = Together(program_lib.traced(config))
  return _TOGETHER[key]


def size_that_fits(
  together: Together, size: int, limit_bytes: int | None, **kinds: bool
) -> int:
  """The largest half of a half … of a size whose step fits into memory.

  Args:
    together: of the program.
    size: at most so many members.
    limit_bytes: of the device; None where it is not known.
    **kinds: see `Together.get`.
  """
  while size > 1 and limit_bytes is not None:
    if together.get(size, **kinds).peak_bytes <= limit_bytes * USABLE_FRACTION:
      break
    size = -(-size // 2)
  return size


def limit_bytes() -> int | None:
  """The memory of a device; None where it does not say, as on a CPU."""
  return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def _numbers(leaf: Any) -> np.ndarray:
  """A leaf of a state on the host; of a random key, its integers."""
  is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _of_numbers(numbers: np.ndarray, like: Any) -> Any:
  """The leaf that `_numbers` gives these of; `like` it a key or none."""
  if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
    return numbers
  return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(like))


def evaluates_alike(config: configure.ConfigDict) -> bool:
  """Whether runs of all seeds are evaluated on the same batches."""
  dataset, seed = build.dataset(config), config.seed
  if getattr(dataset, "fold", None):
    return False
  for_seed = getattr(dataset, "for_seed", None)
  return for_seed is None or for_seed(seed + 1) is dataset
