"""A sweep as an object: rows by method and seed, its table, its runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normjax import errors
from normjax.record.directory import RunState
from normjax.report import formats, load, stats
from normjax.runs import columns, reading

_STAGES = ("final", "tune", None)

if TYPE_CHECKING:
  from normjax.runs.run import Run


def load_sweep(directory: str | Path) -> "SweepRuns":
  """Opens a sweep, or a folder of single runs; also one that still runs.

  Raises:
    RunError: the directory is neither, or its plan cannot be used.
  """
  return SweepRuns(load.load(reading.check_sweep(directory)))


class SweepRuns:
  """What a sweep has left so far, as its report reads it.

  Attributes:
    record: the plan with all runs: what the report is made from.
    runs: run id to `Run`, opened when it is asked for.
  """

  def __init__(self, record: load.SweepRecord):
    """Takes what was read."""
    self.record = record
    self.runs: Mapping[str, Run] = _Runs(record)

  def __repr__(self) -> str:
    """Says where it is, and how large."""
    return (
      f"SweepRuns({str(self.record.directory)!r}, {len(self.methods)} methods,"
      f" {len(self.record.runs)} runs)"
    )

  @property
  def methods(self) -> tuple[str, ...]:
    """The methods' names, in the order of the sweep."""
    return tuple(method.label for method in self.record.methods)

  @property
  def problems(self) -> tuple[str, ...]:
    """What could not be read, one line per file or run."""
    return self.record.problems

  def rows(self, stage: str | None = "final") -> list[dict[str, Any]]:
    """A row per run, by method and seed in the order of the plan.

    Args:
      stage: "final", the runs that the table is made from; "tune", the trials;
        None, all.

    Returns:
      method, seed, for_seed (of a trial, the final seed that it chooses for;
      None: all of them), stage, run_id, state, the numbers of `result.json`,
      its metrics by name and, where they differ, the method's own keys. A run
      that is not done has no metric: a value of one that diverged is none to
      average.
    """
    if stage not in _STAGES:
      raise errors.UserError(
        f"rows({stage!r}): allowed: {', '.join(map(repr, _STAGES))}."
      )
    return [_row(r) for r in self.record.runs if stage in (None, r.stage)]

  def columns(self, stage: str | None = "final") -> dict[str, np.ndarray]:
    """`rows` as arrays by name, NaN where there is no number."""
    return columns.of(self.rows(stage))

  def table(self) -> list[dict[str, Any]]:
    """The report's `table.csv`: a row per method.

    "verdict" is corrected for the number of methods; "verdict_uncorrected" is
    of the interval of the difference alone.
    """
    return formats.records(self.record, stats.summarize(self.record))

  def tuned(self) -> list[dict[str, Any]]:
    """What tuning chose: a row per method and final seed.

    Returns:
      method, seed (None: one choice for all final seeds), on_edge, and the
      values by dotted path. Nothing where nothing was tuned, or not yet.
    """
    return [
      {
        "method": method.label,
        "seed": choice.for_seed,
        "on_edge": choice.on_edge,
        **choice.values,
      }
      for method in self.record.methods
      for choice in method.choices
    ]

  @property
  def best(self) -> "Run":
    """The final run with the best value of the sweep's metric.

    To look into, not to conclude from: which method is better, `table` says.

    Raises:
      RunError: no final run is done yet.
    """
    values = {
      run.run_id: value
      for run in self.record.runs
      if run.stage == "final"
      and (value := run.metric(self.record.metric)) is not None
    }
    if not values:
      raise errors.RunError(
        f"{self.record.directory}: no final run has a {self.record.metric!r}"
        " yet; `rows()` says where each is."
      )
    choose = min if self.record.mode == "min" else max
    return self.runs[choose(values, key=lambda run_id: values[run_id])]


# Of result.json; what it says of its metrics stands apart.
_NUMBERS = (
  *("steps", "diverged_at_step", "train_s", "eval_s", "compile_s", "wall_s"),
  *("step_ms_median", "examples_per_s", "tokens_per_s", "flops_per_step"),
  *("mfu", "data_wait_s", "peak_device_bytes", "peak_rss_bytes"),
  *("num_params", "optimizer_state_bytes", "forwards_per_step"),
)


def _row(run: load.Run) -> dict[str, Any]:
  is_done = run.state is RunState.DONE
  return {
    "method": run.method,
    "seed": run.seed,
    "for_seed": run.for_seed,
    "stage": run.stage,
    "run_id": run.run_id,
    "state": str(run.state),
    **{key: run.result.get(key) for key in _NUMBERS},
    **(run.result.get("metrics", {}) if is_done else {}),
    **run.overrides,
  }


class _Runs(Mapping[str, "Run"]):
  """The runs of a sweep that have begun, by run id."""

  def __init__(self, record: load.SweepRecord):
    self._folders = {
      run.run_id: run.directory.path
      for run in record.runs
      if run.record and run.directory is not None
    }
    self._opened: dict[str, Run] = {}

  def __getitem__(self, run_id: str) -> "Run":
    if run_id not in self._opened:
      from normjax.runs import run  # Late: rows need no jax.

      self._opened[run_id] = run.load_run(self._folders[run_id])
    return self._opened[run_id]

  def __iter__(self) -> Iterator[str]:
    return iter(self._folders)

  def __len__(self) -> int:
    return len(self._folders)
