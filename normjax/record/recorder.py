"""What a run writes while it goes.

A recorder is told what happens and knows the files' form; it decides nothing
about the run. Where several processes train one run, each has a recorder and
tells it the same; one of them writes, and all get the same answers.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from normjax import configure
from normjax.record import clock, files, memory, sinks
from normjax.record import sources as sources_lib
from normjax.record.clock import Clock, StepTimer
from normjax.record.directory import RunDirectory, RunState

_STATUS_EVERY_S = 0.5


class Recorder:
  """Owns run.json, the metric rows, status, result and the mirrors.

  Attributes:
    clock: seconds of training, evaluation and compilation.
    timer: of single steps.
    evaluations: what was measured, by step, in order.
    result: what `result.json` holds, once the run is over.
  """

  def __init__(
    self,
    directory: RunDirectory,
    config: configure.ConfigDict,
    *,
    writes: bool,
    from_writer: Callable[[Callable[[], Any]], Any] = lambda make: make(),
    num_steps: int | None = None,
  ):
    """Says that the run starts.

    Args:
      directory: of this run.
      config: of this run.
      writes: whether this process is the one that writes.
      from_writer: gives, in every process, what a function gives in that one.
      num_steps: that it will have; None: as the config says.
    """
    self.clock = Clock()
    self.timer = StepTimer()
    self.evaluations: dict[int, dict[str, float | None]] = {}
    self.result: dict[str, Any] | None = None
    self._directory, self._config, self._writes = directory, config, writes
    self._from_writer = from_writer
    self._num_steps = num_steps or config.train.num_steps
    self._started_s = time.perf_counter()
    self._status_written_s = self._checked_s = 0.0
    self._progress: dict[str, Any] = {"step": 0, "loss": None}
    self._newest: dict[str, float | None] = {}  # "kind/metric" -> value.
    self._zero_gradient = ZeroGradient()
    self._sizes: dict[str, int] = {}
    self._eval_examples: float | None = None
    self._work: dict[str, float | None] = {}
    self._split = ""  # What evaluations measure.
    # Open from `begin` to `close`, where this process writes.
    self._rows: files.MetricsFile | None = None
    self._mirrors: Sequence[sinks.Sink] = ()
    self.status(RunState.RUNNING, "starting")

  def begin(
    self,
    step: int,
    *,
    resumed: bool,
    seconds: Mapping[str, float],
    sizes: Mapping[str, int],
    facts: Mapping[str, Any],
    problems: Sequence[str],
    sources: Mapping[str, bytes] | None = None,
    work: Mapping[str, float | None] | None = None,
  ) -> None:
    """Opens the files, keeping of the rows what comes before the state.

    Args:
      step: of the state that the run starts from.
      resumed: whether a checkpoint holds that state.
      seconds: of the clock, where earlier processes left it.
      sizes: for run.json and the result.
      facts: what else run.json says.
      problems: met so far.
      sources: name to content, of code that is kept; see `record.sources`.
      work: of one step, as "flops_per_step", and the devices' peak; for
        run.json and the rates.
    """
    self._work = dict(work or {})
    self._split = str(facts.get("split", ""))
    self.clock = Clock(seconds)
    self._sizes = dict(sizes)

    def keep(row: files.Row) -> bool:
      # The evaluation of the checkpoint's state came before it was saved.
      is_its_evaluation = row["step"] == step and row["kind"] == "eval"
      return row["step"] < step or (resumed and is_its_evaluation)

    problems = list(problems)
    if self._writes:
      problems += filter(None, [self._directory.set_result_aside()])
      self._rows = self._directory.open_metrics(keep)
      rows = self._rows.rows
      for row in rows:
        self._remember(row)
      problems += self._rows.problems
      problems += files.lost_rows(rows, step, configure.to_dict(self._config))
    self._share_what_is_there()
    if self._writes:
      sources_lib.keep(self._directory.sources, sources or {})
      self._write_run(facts, [step] if resumed else [], problems)
      self._mirrors = sinks.open_asked(
        self._directory.path, configure.to_dict(self._config)
      )

  def _share_what_is_there(self) -> None:
    """Has all processes know of the rows on disk what the writer does."""
    told = self._from_writer(
      lambda: (
        list(self.evaluations.items()),
        self._newest,
        self._eval_examples,
        self._zero_gradient.since_step,
      )
    )
    evaluations, self._newest, self._eval_examples, since = told
    self.evaluations = {step: values for step, values in evaluations}
    self._zero_gradient.since_step = since

  def _write_run(
    self,
    facts: Mapping[str, Any],
    resumed_at_steps: Sequence[int],
    problems: Sequence[str],
  ) -> None:
    """Config and provenance; keeps what an earlier process noted."""
    found = self._directory.read_run()
    noted = found.value or {}
    if found.problem:
      problems = [*problems, f"{found.problem}; it was written anew"]
    own = facts.get("provenance", {}).get("own", {}).get("modules", {})
    if resumed_at_steps and (other := sources_lib.changed(noted, own)):
      problems = [
        *problems,
        f"before step {resumed_at_steps[-1]} it ran with other code of"
        f" {', '.join(other)}",
      ]
    for step in resumed_at_steps:
      told = _other_arithmetic(
        noted.get("provenance"), facts.get("provenance", {})
      )
      problems = [*problems, *(f"before step {step} {each}" for each in told)]
    self._directory.write_run(
      config=configure.to_dict(self._config),
      **self._sizes,
      **self._work,
      **facts,
      resumed_at_steps=[*noted.get("resumed_at_steps", []), *resumed_at_steps],
      problems=_joined(noted.get("problems", []), problems),
    )

  def note(self, problems: Sequence[str]) -> None:
    """Adds to run.json what is not noted there yet."""
    told = self._directory.read_run().value if self._writes else None
    if told is None:
      return
    noted = told.get("problems", [])
    if (joined := _joined(noted, problems)) != noted:
      fields = {k: v for k, v in told.items() if k not in ("schema", "run_id")}
      self._directory.write_run(**{**fields, "problems": joined})

  # ----- While it goes -----

  def train(self, step: int, values: Mapping[str, float]) -> None:
    """Writes what a step gave: its metrics, and its probes apart."""
    self.timer.lap(step)
    probes = {name: value for name, value in values.items() if "/" in name}
    self._row("train", step, {k: v for k, v in values.items() if "/" not in k})
    if probes:
      self._row("probe", step, probes)
    self._progress = {"step": step, "loss": values["loss"]}
    if time.perf_counter() - self._status_written_s > _STATUS_EVERY_S:
      self.status(RunState.RUNNING)

  def evaluation(
    self, step: int, means: Mapping[str, float], num_examples: float
  ) -> None:
    """Writes what an evaluation gave, and of how many examples."""
    whole = int(num_examples)
    count = whole if whole == num_examples else num_examples
    self._row("eval", step, {files.EVAL_EXAMPLES: count, **means})
    self.status(RunState.RUNNING)

  def _row(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One row on disk, then in the mirrors."""
    time_s = round(self.clock["train"], 4)
    row = {"step": step, "kind": kind, "time_s": time_s, **values}
    if self._rows is not None:
      if time.perf_counter() - self._checked_s > _STATUS_EVERY_S:
        self._check_held()
      self._rows.append(row)
    self._remember(row)
    for mirror in self._mirrors:
      mirror.write(row)

  def _remember(self, row: files.Row) -> None:
    """Keeps the newest values, for the result."""
    if row["kind"] == "eval":
      self.evaluations[row["step"]] = {
        name: value for name, value in row.items() if name not in files.ROW_KEYS
      }
      self._eval_examples = row.get(files.EVAL_EXAMPLES)
    if row["kind"] == "train":
      self._zero_gradient.see(
        row["step"], row.get("grad_norm"), row.get("loss")
      )
    if row["kind"] != "probe":
      for name, value in row.items():
        if name not in files.ROW_KEYS:
          self._newest[f"{row['kind']}/{name}"] = value

  def _check_held(self) -> None:
    """Writes nothing more where another launcher has taken the run over."""
    self._directory.check_held()
    self._checked_s = time.perf_counter()

  def sync(self) -> None:
    """Makes the rows durable: called before a checkpoint is saved.

    Raises:
      LostLeaseError: another launcher has taken the run over.
    """
    if self._rows is not None:
      self._check_held()
      self._rows.sync()

  def status(self, state: RunState, message: str = "") -> None:
    """Says where the run is."""
    self._status_written_s = time.perf_counter()
    if not self._writes:
      return
    num_steps = self._num_steps
    step_s = self.timer.newest_s
    left = num_steps - self._progress["step"]
    self._directory.write_status(
      state,
      **self._progress,
      num_steps=num_steps,
      eta_s=None if step_s is None else left * step_s,
      step_s=step_s,
      **clock.rates(self._work, step_s),
      data_wait_share=self.clock.data_wait_share,
      updated_s=time.time(),
      message=message,
    )

  # ----- The end -----

  def finish(
    self,
    steps: int,
    diverged_at_step: int | None,
    newest: tuple[int, Mapping[str, float]] | None,
  ) -> None:
    """Writes the result; after this the run is over.

    Args:
      steps: that were taken.
      diverged_at_step: None where it did not diverge.
      newest: the last step and what it gave; it may have no row. None where
        this process took none.
    """
    if newest is not None:
      step, values = newest
      self._zero_gradient.see(step, values["grad_norm"], values["loss"])
    over = RunState.DONE if diverged_at_step is None else RunState.DIVERGED
    seconds = {f"{name}_s": s for name, s in self.clock.to_dict().items()}
    step_s = statistics.median(self.timer.each_s or [0.0])
    result = {
      "steps": steps,
      "diverged_at_step": diverged_at_step,
      "split": self._split,
      "gradient_zero_since_step": self._zero_gradient.since_step,
      "metrics": self._newest,
      files.EVAL_EXAMPLES: self._eval_examples,
      **self._sizes,
      **seconds,
      "data_wait_share": self.clock.data_wait_share,
      "wall_s": time.perf_counter() - self._started_s,
      "step_ms_median": 1e3 * step_s,
      **self._work,
      **clock.rates(self._work, step_s),
      **memory.peak(),
    }

    def write() -> Mapping[str, Any]:
      self.sync()
      written = self._directory.write_result(over, **result)
      self.status(over)
      return written

    self.result = self._from_writer(write)

  def stop(self, state: RunState, message: str) -> None:
    """Says that the process ends, unless the run is over."""
    if self.result is None:
      self.status(state, message)

  def close(self) -> None:
    """Closes what is open, all of it, also after an error."""
    with contextlib.ExitStack() as stack:
      if self._rows is not None:
        stack.callback(self._rows.close)
      for mirror in self._mirrors:
        stack.callback(mirror.close)


def _joined(noted: Sequence[str], problems: Sequence[str]) -> list[str]:
  """Each problem once, in the order in which they came."""
  return list(dict.fromkeys([*noted, *problems]))


class ZeroGradient:
  """Notes the first of the steps, up to the newest, that teach nothing.

  Their gradient is exactly 0, or so small that its square underflows, and
  their loss is not: a network that is dead, and whose loss is finite. Seen in
  the training rows and in the last step, at no cost in the others.

  Attributes:
    since_step: the first of them, or None.
  """

  def __init__(self):
    """Nothing was seen yet."""
    self.since_step: int | None = None

  def see(self, step: int, norm: float | None, loss: float | None) -> None:
    """Takes a step's gradient norm and loss; None where there is no number."""
    if norm != 0 or not loss or not math.isfinite(loss):
      self.since_step = None
    elif self.since_step is None:
      self.since_step = step


def _other_arithmetic(before: Any, now: Mapping[str, Any]) -> Iterator[str]:
  """In what a run that goes on differs from what it was."""
  if not isinstance(before, Mapping) or "matmul_precision" not in now:
    return
  stood, stands = map(_stands, (before, now))
  if stood != stands:
    yield f"it trained {stood}, now {stands}"
  before_on, now_on = map(_devices, (before, now))
  if before_on and now_on and before_on != now_on:
    yield f"it was on {before_on}, now {now_on}"
  # Of versions that did not say it: a CPU has one, others their default.
  only_cpu = {*before.get("devices", ())} == {"cpu"}
  unsaid = "float32" if only_cpu else "as the device has them by default"
  was = before.get("matmul_precision", unsaid)
  if was != now["matmul_precision"]:
    yield f"float32 products were {was}, now {now['matmul_precision']}"
  kernels = before.get("kernels")
  if not isinstance(kernels, Mapping):
    return
  for op, names in now.get("kernels", {}).items():
    if (old := kernels.get(op)) and not {*old} & {*names}:
      yield f"{op} ran as {', '.join(old)}, now as {', '.join(names)}"


def _stands(provenance: Mapping[str, Any]) -> str:
  """Whether a run is a member of a population, and which."""
  told = provenance.get("population")
  if not isinstance(told, Mapping) or told.get("size", 1) == 1:
    return "alone"
  return f"at place {told.get('place')} of a population of {told['size']}"


def _devices(provenance: Mapping[str, Any]) -> str | None:
  """What a run trains on; None where its record does not say."""
  count, kinds = (provenance.get(name) for name in ("num_devices", "devices"))
  if not isinstance(count, int) or not isinstance(kinds, list):
    return None
  processes = provenance.get("num_processes", 1)
  several = f" of {processes} processes" if processes != 1 else ""
  names = ", ".join(dict.fromkeys(map(str, kinds)))  # A kind per device.
  return f"{count} x {names}{several}"
