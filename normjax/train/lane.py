"""One run as the loop sees it: config, directory, recorder, and its state."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax

from normjax import build, configure, procedures
from normjax.data import dataset as dataset_lib
from normjax.record import provenance, sources
from normjax.record.directory import RunDirectory
from normjax.record.recorder import Recorder
from normjax.train import by_procedure, fit, gradient, premise, rounded_away
from normjax.train.checkpoint import Checkpoints
from normjax.train.evaluate import Measured
from normjax.train.processes import distributed
from normjax.train.program import Program
from normjax.train.state import State
from normjax.train.throughput import data_wait, model_flops, peaks, profile

_LOG = logging.getLogger(__name__)

# Called as ("evaluate" | "save" | "step" | "log", step), before it is done.
Observer = Callable[[str, int], None]


# Fetches what a step gave to the host.
Fetch = Callable[[], Mapping[str, float]]
ALONE: Mapping[str, Any] = {"size": 1}


class Held(Protocol):
  """Where a lane's state is, between steps."""

  @property
  def state(self) -> State:
    """After the lane's last step."""
    ...

  @property
  def diverged_at(self) -> int:
    """Of that state, on the host."""
    ...


class Own:
  """A state of the lane's own."""

  def __init__(self, state: State):
    """Holds it."""
    self.state = state

  @property
  def diverged_at(self) -> int:
    """Of the state, on the host."""
    return int(self.state.diverged_at)


class Lane:
  """One of the runs that one program trains.

  Attributes:
    config: of the run.
    recorder: is told what the run gives.
    program: what trains it, and perhaps others beside it.
    hyper: the run's scalars, on the devices.
    dataset: what it trains on.
    evaluated: what it is evaluated on.
    procedures: what it does beyond plain training.
    rows: examples of a batch that the devices of this process hold.
    held: its state after `step` updates; None before `begin`.
    step: updates taken.
    diverged_at: step of the first bad loss, as far as this process has seen;
      -1 where there is none.
  """

  def __init__(
    self,
    config: configure.ConfigDict,
    directory: RunDirectory,
    recorder: Recorder,
    program: Program,
    observe: Observer,
    population: Mapping[str, Any] = ALONE,
    flops_per_step: float | None = None,
    window: profile.Window | None = None,
  ):
    """Nothing is computed yet.

    Args:
      config: a resolved config of this program.
      directory: of this run alone.
      recorder: see the class.
      program: see the class.
      observe: see `Observer`.
      population: where it trains, for its record; see `chunks`.
      flops_per_step: of this run alone, by the compiler's count; None where
        it has none.
      window: steps to trace.
    """
    self.config, self.recorder, self.program = config, recorder, program
    self.held: Held | None = None
    self.step, self.diverged_at = 0, -1
    self._directory, self._observe = directory, observe
    self._population = dict(population)
    self._flops_per_step = flops_per_step
    self.dataset = build.dataset(config)
    self.evaluated = build.evaluation_dataset(config)
    self.hyper = program.layout.put_scalars(build.hyper(config))
    self.rows = program.layout.rows_here(config.train.batch_size)
    self.procedures = procedures.of(config)
    self._stops = sorted({s for p in self.procedures for s in p.stops()})
    self._checkpoints: Checkpoints | None = None
    self._saved_step: int | None = None
    self._data_wait = data_wait.DataWait()
    self._profile = profile.Profile(window, directory.path)
    # Of steps, with what they gave: the last one, and one whose row is due.
    self._newest: tuple[int, Fetch] | None = None
    self._unlogged: tuple[int, Fetch] | None = None

  def begin(self) -> None:
    """Takes the newest checkpoint's state, or starts afresh."""
    config = self.config
    restored, seconds, problems = None, None, []
    if config.checkpoint.every_steps:
      self._checkpoints = Checkpoints(
        self._directory.checkpoints,
        config.checkpoint.keep,
        self._directory.run_id,
      )
      restored, seconds, problems = self._checkpoints.restore(
        self.program.abstract_state
      )
    state = restored or self._start()
    self.held = Own(state)
    self.step = int(state.step)
    if restored:
      self._saved_step = self.step
    else:
      problems = [*problems, *self._premise(state)]
    collected = provenance.collect()
    fold = getattr(self.dataset, "fold", None)
    kept = sources.snapshot(config, collected["git"])
    self.recorder.begin(
      self.step,
      resumed=restored is not None,
      seconds=seconds or {},
      sizes={
        **self.program.sizes(state),
        "forwards_per_step": model_flops.forwards_per_step(config),
      },
      work=self._work(),
      facts={
        "program": build.program_key(config),
        "split": configure.evaluated_split(config),
        **({"fold": fold} if fold else {}),
        **by_procedure.facts(self),
        "provenance": {
          **collected,
          **kept.facts,
          "num_devices": self.program.layout.mesh.size,
          **(
            {"num_processes": distributed.num_processes()}
            if distributed.num_processes() > 1
            else {}
          ),
          "population": self._population,
          "cores": len(os.sched_getaffinity(0)),
          "matmul_precision": self.program.matmul_precision,
          "kernels": self.program.kernels,
          "kernels_refused": self.program.kernels_refused,
          "data": self.dataset.provenance,
        },
      },
      problems=[*problems, *self._profile.note(self.step), *self._notes()],
      sources=kept.files,
    )

  def _notes(self) -> tuple[str, ...]:
    """What the data set has to say of itself, so far."""
    return tuple(getattr(self.dataset, "notes", ()))

  def _start(self):
    """The state before step 0: as drawn, and changed by the start steps."""
    state = self.program.initialize(
      self.hyper, self._first_batch(), build.start_steps(self.config)
    )
    fit.check_finite(self.config.model.name, state.variables())
    return state

  def _premise(self, state: State) -> tuple[str, ...]:
    """What a method asks for and the model does not have, if anything."""
    on = functools.partial(
      jax.jit, out_shardings=self.program.layout.everywhere
    )
    roles = self.program.recipe.roles
    notes = gradient.notes(self.config)
    notes += rounded_away.notes(self.config, roles, state.params, on)
    if found := premise.get(self.config):
      notes += found.notes(state.variables(), self._first_batch(), on)
    for note in notes:
      _LOG.warning("%s", note)
    return notes

  def _first_batch(self) -> dict[str, jax.Array]:
    """The batch of step 0, on the devices."""
    return self.program.layout.put_batch(self._batch_of(0), self.rows)

  def _batch_of(self, step: int) -> Mapping[str, Any]:
    """The batch of a step, on the host: all of it, or `rows`."""
    size = self.config.train.batch_size
    given = self.config.seed, step, size
    part = getattr(self.dataset, "train_rows", None)
    if part is None or self.rows == (0, size, size):
      batch = self.dataset.train_batch(*given)
    else:
      batch = part(*given, slice(self.rows.start, self.rows.stop))
    dataset_lib.check_domains(self.dataset, batch)
    return batch

  def _work(self) -> dict[str, float | None]:
    """What one step goes through: for the rates of a run's record.

    `flops_per_step` is the compiler's count, on one device; None where it has
    none. The body of a loop, as of accumulation, counts once. What the model's
    own operations are is told where the devices' peak is known. A member of a
    population has its share of that: the step is of all of them.
    """
    peak = peaks.flops_per_s(
      self.program.layout.mesh.devices.flat, peaks.arithmetic(self.config)
    )
    if peak is not None:
      peak /= self._population["size"]
    batch_size = self.config.train.batch_size
    is_text = self.dataset.reads == "tokens"
    inputs = self.dataset.train_batch(0, 0, batch_size)["inputs"]
    return {
      "examples_per_step": batch_size,
      "tokens_per_step": inputs.size if is_text else None,
      "flops_per_step": self._flops_per_step,
      "model_flops_per_step": peak and model_flops.per_step(self.config),
      "peak_flops_per_s": peak,
    }

  # ----- Between steps -----

  @property
  def is_last(self) -> bool:
    """Whether no step is left."""
    return self.step == self.config.train.num_steps

  @property
  def is_over(self) -> bool:
    """Whether all is there that the result needs."""
    is_evaluated = self.step in self.recorder.evaluations
    return self.diverged_at >= 0 or (self.is_last and is_evaluated)

  def _is_due(self, every_steps: int) -> bool:
    return self.is_last or (every_steps > 0 and self.step % every_steps == 0)

  def steps_until_due(self) -> int:
    """How many steps there are before the next that is evaluated or saved."""
    stops = [self.config.train.num_steps - self.step]
    for every_steps in (
      self.config.evaluate.every_steps,
      self.config.checkpoint.every_steps,
    ):
      if every_steps:
        stops.append(every_steps - self.step % every_steps)
    stops += [stop - self.step for stop in self._stops if stop > self.step]
    return min(stops)

  def begin_evaluation(self) -> bool:
    """Whether the state is to be evaluated now.

    It is not where it has diverged, or where its row is there from before a
    resume.
    """
    assert self.held is not None
    self.diverged_at = self.held.diverged_at
    is_there = self.step in self.recorder.evaluations
    if self.diverged_at >= 0 or is_there:
      return False
    is_due = self._is_due(self.config.evaluate.every_steps)
    is_due = is_due or self.step in self._stops
    if is_due:
      self._observe("evaluate", self.step)
    return is_due

  def take_evaluation(self, measured: Measured) -> None:
    """Writes what an evaluation of the state gave, and the procedures.

    Raises:
      Stopped: a signal came, and nothing was written.
    """
    if self.procedures:
      more = by_procedure.measure(self, measured)
      measured = measured._replace(means=measured.means | more)
    self.recorder.evaluation(self.step, *measured)

  def save_if_due(self, *, is_stopping: bool) -> None:
    """Starts an asynchronous checkpoint of the state.

    Args:
      is_stopping: whether the process ends, and what is not over is due.
    """
    is_due = self._is_due(self.config.checkpoint.every_steps)
    if self._checkpoints is None or self.step == self._saved_step:
      return
    if is_due or (is_stopping and not self.is_over):
      self._observe("save", self.step)
      self.recorder.sync()
      # The next step donates the state's buffers; the writer needs its own.
      self._checkpoints.save(
        self.program.snapshot(self.held.state), self.recorder.clock.to_dict()
      )
      self._saved_step = self.step

  def finish_if_over(self) -> None:
    """Writes the result, once the last checkpoint is on disk."""
    if not self.is_over:
      return
    self._close_checkpoints()
    self.recorder.note(self._notes())
    newest = None
    if self._newest is not None:
      step, fetch = self._newest
      newest = step, fetch()
    diverged_at_step = self.diverged_at if self.diverged_at >= 0 else None
    self.recorder.finish(self.step, diverged_at_step, newest)

  # ----- Steps -----

  def batch(self) -> Mapping[str, Any]:
    """The batch of the next step, on the host: all of it, or `rows`."""
    return self._batch_of(self.step)

  def fetched(self, make: Callable[[], Any], running: jax.Array) -> Any:
    """The batch of the next step; counts for how long the devices wait for it.

    Args:
      make: the batch.
      running: of what the step before gives.
    """
    batch, waited_s = self._data_wait.fetch(make, running)
    self.recorder.clock.add("data_wait", waited_s)
    return batch

  def traced(self, wait: Callable[[], Any]) -> AbstractContextManager[None]:
    """A block that takes the next step; traces it, where that was asked for.

    Args:
      wait: for the devices to be done with the steps that they were given.
    """
    return self._profile.step(self.step, wait)

  def took_step(self, fetch: Fetch) -> None:
    """Notes a step that was started, and meanwhile logs the one before."""
    step = self.step
    self._newest = step, fetch
    self._observe("step", step)
    self.log()
    if self.diverged_at < 0 and step % self.config.log.every_steps == 0:
      self._unlogged = step, fetch
    self.step += 1

  def log(self) -> None:
    """Fetches and writes the row that is due, if one is."""
    if self._unlogged is None:
      return
    step, fetch = self._unlogged
    self._unlogged = None
    self._observe("log", step)
    values = dict(fetch())
    self.diverged_at = int(values.pop("diverged_at"))
    self.recorder.train(step, values)

  # ----- The end -----

  def close(self) -> None:
    """Closes what is open, all of it, also after an error."""
    with contextlib.ExitStack() as stack:
      stack.callback(self.recorder.close)
      stack.callback(self._profile.close)
      stack.callback(self._close_checkpoints)

  def _close_checkpoints(self) -> None:
    if self._checkpoints is not None:
      self._checkpoints.close()
      self._checkpoints = None
