"""Runs of one program as members of one: a step of all under `jax.vmap`.

Each array of the state gets an axis for the members in front. A small model
on a GPU waits for its kernels to start: sixteen members take nearly as many
of them as one. What is not batched is in `shared`.

A member that is over, that has not begun, or whose place is empty is frozen:
the step computes it with the others and keeps what it had.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from normjax import build, configure
from normjax.train import evaluate as evaluation
from normjax.train import program as program_lib
from normjax.train import shared
from normjax.train import step as train_step
from normjax.train.lane import Lane
from normjax.train.state import State
from normjax.types import PyTree

# Of a device's memory, for what a compiler's count leaves out.
USABLE_FRACTION = 0.9


class Compiled(NamedTuple):
  """The functions of a population of one size.

  Attributes:
    step: (state, batch, hyper, is_going) -> (state, metrics); donates the
      state.
    evaluate: (state, batch, hyper) -> sums.
    peak_bytes: of a step: arguments, temporaries and outputs.
    compile_s: what compiling them took.
  """

  step: Any
  evaluate: Any
  peak_bytes: int
  compile_s: float


class Together:
  """What is known of a program's populations, of any size.

  Attributes:
    program: of one member.
    shared: what its members have in common.
  """

  def __init__(self, program: program_lib.Program):
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
    """Seconds of compilation since the last call."""
    seconds, self._unbilled_s = self._unbilled_s, 0.0
    return seconds

  def stack(self, states: Sequence[State], first: State) -> State:
    """The state of a population, on the devices.

    Args:
      states: of each place.
      first: the one whose shared leaves are taken.
    """
    each = zip(self._axes, *map(jax.tree.leaves, [first, *states]), strict=True)
    stacked = [
      np.asarray(leaf)
      if axis is None
      else np.stack([np.asarray(x) for x in members])
      for axis, leaf, *members in each
    ]
    return self.put(self._structure.unflatten(stacked))

  def shared_of(self, state: State) -> list[np.ndarray]:
    """What a member's state has of what is shared."""
    leaves = jax.tree.leaves(state)
    return [np.asarray(leaves[n]) for n in sorted(self.shared.leaves)]

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
  ) -> tuple[State, program_lib.Arguments]:
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
      program_lib.Arguments(
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
    return Compiled(step, evaluate, program_lib.peak_bytes(step), seconds)


_TOGETHER: dict[str, Together] = {}


def get(config: configure.ConfigDict) -> Together:
  """What is known of the populations of a config's program."""
  key = build.program_key(config)
  if key not in _TOGETHER:
    _TOGETHER[key] = Together(program_lib.get(config)[0])
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


class Place:
  """Where a member's state is: in that of its population."""

  def __init__(self, population: "Population", number: int):
    """The place of that number."""
    self._population, self.number = population, number

  @property
  def state(self) -> State:
    """The member's state, copied."""
    return self._population.state_of(self.number)

  @property
  def diverged_at(self) -> int:
    """Of that state, on the host."""
    return self._population.diverged_at(self.number)


class Population:
  """Moves its members together; see `loop.Stepper`."""

  def __init__(
    self,
    together: Together,
    lanes: Sequence[Lane],
    places: Sequence[int],
    size: int,
    *,
    same_batches: bool,
  ):
    """Takes the states of lanes that have begun.

    Args:
      together: of their program.
      lanes: the members.
      places: of each, below `size`.
      size: of the population; places that nobody has stay empty.
      same_batches: see `Together.get`.
    """
    self._together, self._size = together, size
    self._same_batches = same_batches
    self._same_evaluation = evaluates_alike(lanes[0].config)
    self._compiled = together.get(
      size, same_batches=same_batches, same_evaluation=self._same_evaluation
    )
    # One that has taken more steps waits, and meets what is shared later.
    self._first = min(lanes, key=lambda lane: lane.step)
    self._check_shared(lanes)
    rows = self._rows(dict(zip(places, lanes, strict=True)), self._first)
    self._hyper = together.put(
      {
        name: np.asarray(values[0])
        if name in together.shared.scalars
        else np.stack(values)
        for name, values in _columns([lane.hyper for lane in rows]).items()
      }
    )
    self._state = together.stack(
      [lane.held.state for lane in rows], self._first.held.state
    )
    self._diverged_at: np.ndarray | None = None
    self._going: tuple[tuple[int, ...], Any] = ((), None)
    for lane, place in zip(lanes, places, strict=True):
      lane.held = Place(self, place)

  def state_of(self, place: int) -> State:
    """The state of a member, copied."""
    return self._together.take(self._state, place)

  def diverged_at(self, place: int) -> int:
    """Of a member's state; -1 where it has not diverged."""
    if self._diverged_at is None:
      self._diverged_at = np.asarray(self._state.diverged_at)
    return int(self._diverged_at[place])

  def evaluate(self, lanes: Sequence[Lane]) -> None:
    """Evaluates those whose evaluation is due, at once if asked alike."""
    groups: dict[str, list[Lane]] = {}
    for lane in lanes:
      if lane.begin_evaluation():
        asked = [lane.config.evaluate.to_dict(), lane.is_last]
        groups.setdefault(configure.digest(asked), []).append(lane)
    for group in groups.values():
      with contextlib.suppress(evaluation.Stopped):  # The loop sees what came.
        measured = self._measure(group)
        for lane, each in zip(group, measured, strict=True):
          lane.take_evaluation(each)

  def take_step(self, lanes: Sequence[Lane]) -> None:
    """Starts the next step of each; the other members stay as they are."""
    places = tuple(lane.held.number for lane in lanes)
    if self._going[0] != places:
      is_going = np.isin(np.arange(self._size), places)
      self._going = places, self._together.put(is_going)
    batches = {lane.held.number: lane.batch() for lane in lanes}
    batch = self._batch(batches, same=self._same_batches)
    self._state, metrics = self._compiled.step(
      self._state, batch, self._hyper, self._going[1]
    )
    self._diverged_at = None
    fetch = functools.cache(functools.partial(jax.device_get, metrics))
    for lane in lanes:
      lane.took_step(functools.partial(_row, fetch, lane.held.number))

  def wait(self, lanes: Sequence[Lane]) -> None:
    """Returns when their steps are done."""
    del lanes
    jax.block_until_ready(self._state)

  def _measure(self, lanes: Sequence[Lane]) -> list[evaluation.Measured]:
    """What lanes that ask the same are evaluated at."""
    places = [lane.held.number for lane in lanes]

    def sums_of(batches):
      there = {
        place: batch
        for place, batch in zip(places, batches, strict=True)
        if batch is not None
      }
      sums = self._compiled.evaluate(
        self._state,
        self._batch(there, same=self._same_evaluation),
        self._hyper,
      )
      fetched = jax.device_get(sums)
      return [
        {name: values[place] for name, values in fetched.items()}
        for place in places
      ]

    # Of one data set its batches are made once.
    datasets = [
      lanes[0].evaluated if self._same_evaluation else lane.evaluated
      for lane in lanes
    ]
    with contextlib.ExitStack() as clocks:
      for lane in lanes:
        clocks.enter_context(lane.recorder.clock.measure("eval"))
      return evaluation.measure_each(
        sums_of,
        self._together.program.metrics,
        datasets,
        lanes[0].config.evaluate,
        corrupted=lanes[0].is_last,
      )

  def _batch(self, batches: Mapping[int, Any], *, same: bool) -> PyTree:
    """The batch of all members, on the devices; of one place or of each."""
    some = next(iter(batches.values()))
    if same:
      return self._together.put(dict(some))
    columns = _columns(self._rows(batches, some))
    return self._together.put(
      {name: np.stack(values) for name, values in columns.items()}
    )

  def _rows[T](self, at: Mapping[int, T], filler: T) -> list[T]:
    """One for each place."""
    return [at.get(place, filler) for place in range(self._size)]

  def _check_shared(self, lanes: Sequence[Lane]) -> None:
    """Raises RuntimeError where what is shared is not, after equal steps."""
    known: dict[int, list[np.ndarray]] = {}
    for lane in lanes:
      own = self._together.shared_of(lane.held.state)
      want = known.setdefault(lane.step, own)
      if not all(map(np.array_equal, own, want)):
        raise RuntimeError(
          f"after {lane.step} steps two members of a population have other"
          " counters: one was started from another state than the other"
        )


def evaluates_alike(config: configure.ConfigDict) -> bool:
  """Whether runs of all seeds are evaluated on the same batches."""
  dataset, seed = build.dataset(config), config.seed
  if getattr(dataset, "fold", None):
    return False
  for_seed = getattr(dataset, "for_seed", None)
  return for_seed is None or for_seed(seed + 1) is dataset


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[np.ndarray]]:
  return {name: [np.asarray(row[name]) for row in rows] for name in rows[0]}


def _row(
  fetch: Callable[[], Mapping[str, np.ndarray]], place: int
) -> dict[str, float]:
  return {name: float(values[place]) for name, values in fetch().items()}
