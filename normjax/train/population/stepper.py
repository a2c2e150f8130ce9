"""Runs of one program as members of one; see `together` for what it computes.

A member that is over, or waits for others to catch up, is frozen; so is a place
that nobody has. What the others compute does not depend on it.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from normjax import configure
from normjax.train import evaluate as evaluation
from normjax.train.lane import Lane
from normjax.train.population import together as together_lib
from normjax.train.state import State
from normjax.train.throughput import data_wait
from normjax.types import PyTree


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
    together: together_lib.Together,
    compiled: together_lib.Compiled,
    lanes: Sequence[Lane],
    places: Sequence[int],
    *,
    same_batches: bool,
  ):
    """Takes the states of lanes that have begun.

    Args:
      together: of their program.
      compiled: what it gives for as many places; those that nobody has stay
        empty.
      lanes: the members.
      places: of each.
      same_batches: see `Together.get`.
    """
    self._together, self._compiled = together, compiled
    self._size = compiled.size
    self._same_batches = same_batches
    self._same_evaluation = together_lib.evaluates_alike(lanes[0].config)
    # One that has taken more steps waits until the others have, too.
    first = min(lanes, key=lambda lane: lane.step)
    self._step = first.step
    self._shared_at = self._read_shared(lanes)
    rows = self._rows(dict(zip(places, lanes, strict=True)), first)
    self._hyper = together.put(
      {
        name: np.asarray(values[0])
        if name in together.shared.scalars
        else np.stack(values)
        for name, values in _columns([lane.hyper for lane in rows]).items()
      }
    )
    self._state = together.stack(
      [lane.held.state for lane in rows], first.held.state
    )
    self._diverged_at: np.ndarray | None = None
    self._data_wait = data_wait.DataWait()
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
    self._meet(lanes[0].step)
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
    drawn = lanes[:1] if self._same_batches else lanes

    def make():
      batches = {lane.held.number: lane.batch() for lane in drawn}
      return self._batch(batches, same=self._same_batches)

    batch, waited_s = self._data_wait.fetch(make, self._state.step)
    self._state, metrics = self._compiled.step(
      self._state, batch, self._hyper, self._going[1]
    )
    self._diverged_at = None
    self._step += 1
    fetch = functools.cache(functools.partial(jax.device_get, metrics))
    for lane in lanes:
      lane.recorder.clock.add("data_wait", waited_s)
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

      def fetch():
        fetched = jax.device_get(sums)
        return [
          {name: values[place] for name, values in fetched.items()}
          for place in places
        ]

      return fetch

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

  def _meet(self, step: int) -> None:
    """Has what is shared be that of members who were ahead of the others."""
    if step != self._step:
      self._state = self._together.with_shared(
        self._state, self._shared_at[step]
      )
      self._step = step

  def _read_shared(self, lanes: Sequence[Lane]) -> dict[int, list[np.ndarray]]:
    """What is shared, by the steps that lanes have taken.

    Raises:
      RuntimeError: it is not the same after as many steps.
    """
    found: dict[int, list[np.ndarray]] = {}
    for lane in lanes:
      own = self._together.shared_of(lane.held.state)
      want = found.setdefault(lane.step, own)
      if not all(map(np.array_equal, own, want)):
        raise RuntimeError(
          f"after {lane.step} steps two members of a population have other"
          " counters: one was started from another state than the other"
        )
    return found


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[np.ndarray]]:
  return {name: [np.asarray(row[name]) for row in rows] for name in rows[0]}


def _row(
  fetch: Callable[[], Mapping[str, np.ndarray]], place: int
) -> dict[str, float]:
  return {name: float(values[place]) for name, values in fetch().items()}
