"""A run as an object: config, model, state, data, metrics, evaluation."""

import contextlib
import functools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from normjax import build, configure, errors, fields
from normjax.metrics import Metric
from normjax.objectives import Objective
from normjax.record import files, probes
from normjax.record.directory import RunDirectory, RunRecord
from normjax.runs import columns, evaluation, export, reading
from normjax.train import checkpoint, data_change, evaluate, reopen
from normjax.train.state import State

_LOG = logging.getLogger(__name__)


def load_run(
  directory: str | Path,
  step: int | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> "Run":
  """Opens a run: finished, interrupted, diverged, or going on.

  What it learned is read when it is first asked for. Nothing is written.

  Args:
    directory: of the run, as `normjax train` writes it, or one of a sweep's
      `runs/`.
    step: of the checkpoint; None takes the newest.
    overrides: dotted path to value, where this machine differs from the one
      that trained, as {"data.root": "/new/place"}.

  Raises:
    RunError: the directory is no run, is a sweep, is half written or of a
      newer version.
    ConfigError: an override that does not fit the config.
  """
  found, value = reading.open_run(directory)
  config = configure.ConfigDict(value["config"])
  with _naming(found.path / files.RUN):
    fields.check(config)
  if not isinstance(overrides or {}, Mapping):
    raise errors.UserError(
      f"load_run: overrides={overrides!r}; needed: dotted path to value, as in"
      ' {"data.root": "/new/place"}.'
    )
  config = configure.override(config, overrides or {})
  fields.check(config)
  run = Run(found, config, step)
  if step is not None:
    run.check_step(step)
  return run


class Run:
  """One run.

  Attributes:
    directory: where it is.
    config: resolved; of the run, with the overrides of `load_run`.
  """

  def __init__(
    self, found: RunDirectory, config: configure.ConfigDict, step: int | None
  ):
    """See `load_run`."""
    self.directory = found.path
    self.config = config
    self._files, self._asked_step = found, step
    self._evaluators: dict[tuple[Metric, ...], reopen.Evaluator] = {}
    self._said: set[str] = set()

  def __repr__(self) -> str:
    """Says which run it is, where, and how far."""
    return f"Run({str(self.directory)!r}, {self.record.state})"

  # ----- What its files say -----

  @property
  def run_id(self) -> str:
    """Its name."""
    return self._files.run_id

  @property
  def record(self) -> RunRecord:
    """Where it is now: `.state`, `.status`, `.problems`; read each time."""
    record = self._files.read()
    self._say(record.problems)
    return record

  def _say(self, problems: Iterable[str]) -> None:
    """Warns of each damaged file once; what is in it counts as absent."""
    for problem in problems:
      if problem not in self._said:
        self._said.add(problem)
        _LOG.warning("%s", problem)

  @property
  def result(self) -> Mapping[str, Any] | None:
    """What `result.json` holds; None where the run is not over.

    A damaged file counts as absent, with a warning that names it.
    """
    return self.record.result

  @property
  def provenance(self) -> Mapping[str, Any]:
    """Versions, machine, data and code that it ran with."""
    return (self._files.read_run().value or {}).get("provenance", {})

  def metrics(self, kind: str | None = None) -> dict[str, np.ndarray]:
    """The rows of `metrics.jsonl` as columns: `pandas.DataFrame(…)` takes them.

    Args:
      kind: "train", "eval" or "probe": these rows, without the column "kind";
        None: all, with it.

    Returns:
      Name to array, all of one length, NaN where a row has no such number.
      Lines that are no rows are left out, with a warning that names them.
    """
    rows, problems = self._files.read_rows()
    self._say(problems)
    if kind is None:
      return columns.of(rows)
    kinds = sorted({row["kind"] for row in rows})
    if rows and kind not in kinds:
      raise errors.UserError(
        f"metrics({kind!r}): {self.directory / files.METRICS} has rows of kind"
        f" {', '.join(map(repr, kinds))}."
      )
    return columns.of(
      {k: v for k, v in row.items() if k != "kind"}
      for row in rows
      if row["kind"] == kind
    )

  # ----- What it learned -----

  @property
  def steps(self) -> tuple[int, ...]:
    """Those whose checkpoints are there, in order."""
    return tuple(sorted(checkpoint.steps(self.directory)))

  def check_step(self, step: int) -> None:
    """Raises RunError where there is no checkpoint of this step."""
    if step not in self.steps:
      raise errors.RunError(
        f"{self._files.checkpoints} has no checkpoint of step {step!r}; there"
        f" are: {', '.join(map(str, self.steps)) or 'none'}."
      )

  @property
  def step(self) -> int:
    """Updates that `state` has seen."""
    return int(self.state.step)

  @functools.cached_property
  def state(self) -> State:
    """All that the checkpoint holds, on this machine's devices.

    Raises:
      RunError: there is no checkpoint, or a damaged one.
      UserError: what the config names is not here: data, or a module of one's
        own.
    """
    step = self._asked_step
    while True:
      if not self.steps:
        raise errors.RunError(
          f"{self._files.checkpoints} has no checkpoint: a run keeps some where"
          " checkpoint.every_steps is above 0, the first after as many steps;"
          f" here it is {self.config.checkpoint.every_steps}."
        )
      wanted = max(self.steps) if step is None else step
      folder = self._files.checkpoints / str(wanted)
      try:
        return reopen.place(
          self._opened, checkpoint.read(folder, self._opened.state, self.run_id)
        )
      except Exception as error:
        if step is None and not folder.exists():
          continue  # The run goes on, and keeps newer ones alone.
        if checkpoint.is_elsewhere(error):
          raise
        others = [each for each in self.steps if each != wanted]
        raise errors.RunError(
          f"the checkpoint {folder} {checkpoint.complaint(error)}."
          + (
            f" load_run(…, step={max(others)}) opens another one; there are:"
            f" {', '.join(map(str, others))}."
            if others
            else " There is no other."
          )
        ) from error

  @functools.cached_property
  def model(self) -> nnx.Module:
    """The model of the step, in evaluation mode: `run.model(inputs)`.

    With the variables that its evaluations read: the average where
    `evaluate.weights` says so, else the trained ones or those that its
    optimizer has for evaluations.
    """
    return reopen.model(self._opened, self.state)

  def parameters(self, pattern: str = "") -> dict[str, np.ndarray]:
    """Path to array, of the parameters that `model` has.

    Args:
      pattern: a regular expression that is searched for in the paths, as
        "attention/.*kernel"; "" takes all.

    Raises:
      UserError: it is none, or nothing matches.
    """
    found = self.variables()["params"]
    try:
      chosen = {
        path: x for path, x in found.items() if re.search(pattern, path)
      }
    except (re.error, TypeError) as error:
      raise errors.UserError(
        f"parameters({pattern!r}): no regular expression: {error}."
      ) from error
    if not chosen:
      raise errors.UserError(
        f"parameters({pattern!r}): nothing matches; there are:"
        f" {', '.join(found)}."
      )
    return chosen

  def variables(self) -> dict[str, dict[str, np.ndarray]]:
    """By collection ("params", "stats", "grad_stats") and path."""
    tree = jax.device_get(reopen.variables(self._opened, self.state))
    return {
      collection: dict(probes.named_leaves(leaves))
      for collection, leaves in tree.items()
    }

  def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes the parameters and statistics to a safetensors file.

    Tensors are called "params/<path>" and "stats/<path>", as in `variables`.
    Axes are Flax's: kernels (in, out), convolutions HWIO. The metadata has
    run_id, step, config (JSON) and the version of normjax.

    Args:
      path: of the file.
      overwrite: a file that has anything else than this run at this step.

    Raises:
      RunError: the file cannot be written, or has something else.
    """
    return export.save(
      Path(path),
      self.variables(),
      self.run_id,
      self.step,
      self.config,
      overwrite=overwrite,
    )

  # ----- Evaluation -----

  @property
  def objective(self) -> Objective:
    """What is minimized, with the options of the config."""
    return self._opened.recipe.make_objective(self._opened.hyper)

  @functools.cached_property
  def data(self) -> Any:
    """The data set: `.train_batch(…)`, `.evaluation_batches(…)`."""
    with self._building():
      found = build.dataset(self.config)
    was = data_change.began_with(self._files)
    if said := data_change.difference(was, found.provenance):
      _LOG.warning("%s: the data has changed: %s", self.directory, said)
    return found

  def evaluate(
    self,
    data: Any = None,
    split: str | None = None,
    metrics: Iterable[evaluation.Asked] = (),
    num_batches: int | None = None,
  ) -> dict[str, float]:
    """Evaluates the state, by the program of the run's own evaluations.

    On its own data, machine and devices, the last step gives the numbers of
    `result.json` bit for bit.

    Args:
      data: what the model is evaluated on: None, the run's own; a name as in a
        config; a mapping with "name" and options; or a data set. It must give
        inputs and targets of the same kind.
      split: "train", "tuning", "validation" or "test", where the data set has
        it; None: as the config says, "validation" unless it asks for another.
      metrics: beside those of the config: names of `normjax.metrics`,
        "package.module:function", a `Metric`, or functions (output, batch) ->
        one value per example.
      num_batches: at most so many; 0 takes all; None: as the config says.

    Returns:
      The objective's means and the metrics by name, without "eval/"; where the
      config asks for corruptions, on its own data and split these too.

    Raises:
      UserError: data, a split or a metric that does not fit, or a metric
        whose name is taken; what `state` raises.
    """
    own_split = configure.evaluated_split(self.config)
    split = own_split if split is None else split
    dataset = evaluation.dataset(self.config, self.data, data, split)
    added = evaluation.metrics(metrics, self._opened, dataset)
    # Kept, so that another split needs no further compilation.
    if added not in self._evaluators:
      self._evaluators[added] = reopen.evaluator(self._opened, added)
    return evaluate.measure(
      self._evaluators[added],
      self.state,
      dataset,
      self._opened.hyper,
      evaluation.options(self.config, num_batches),
      corrupted=data is None and split == own_split,
    ).means

  # ----- Building what the config names -----

  @functools.cached_property
  def _opened(self) -> reopen.Opened:
    """What the config says, in shapes alone."""
    with self._building():
      return reopen.open_config(self.config)

  def _building(self) -> contextlib.AbstractContextManager[None]:
    """Says whose config is at fault, and what may help."""
    return _naming(self.directory / files.RUN)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
  """Puts the file in front of what is wrong with the config in it."""
  try:
    yield
  except errors.UserError as error:
    help_ = ""
    if isinstance(_root(error), ImportError):
      help_ = (
        " A run with a component of one's own needs its module: put the"
        " module's folder on sys.path (PYTHONPATH) before load_run."
      )
    raise type(error)(f"{path}: {error}{help_}") from error


def _root(error: BaseException) -> BaseException:
  """What was raised first."""
  while error.__cause__ is not None:
    error = error.__cause__
  return error
