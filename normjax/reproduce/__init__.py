"""Published tables again: the paper's number beside the measured one.

    from normjax import reproduce

    outcome = reproduce.run("selu_depth", scale="proxy")
    outcome.judged  # the verdicts on what was expected

A table is a file of `configs/papers`: a sweep file that also says which cells
the paper printed and, before anything is measured, what is expected of them
(`normjax.papers`). Nothing here imports jax before something has to run.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from normjax.reproduce.running import Outcome

__all__ = ["run"]


def run(
  name: str,
  *,
  scale: str | None = None,
  rows: str | None = None,
  seeds: Iterable[int] | None = None,
  out: str | Path | None = None,
  overrides: Mapping[str, Any] | None = None,
  save: bool = False,
  **options: Any,
) -> "Outcome":
  """Measures a published table, or goes on with it, and writes it.

  Args:
    name: of a file in `configs/papers`, or a file's path.
    scale: "proxy", "small" or "paper", where the file has it; None: its first.
    rows: only cells whose row or column this regular expression matches; the
      rest can be measured later.
    seeds: only these of the final seeds.
    out: folder; None: `runs/<name>_<scale>`.
    overrides: of the configs, dotted path to value. What is run is then
      another question, and nothing is judged; but for where data and a
      tokenizer's file lie.
    save: also write `experiments/<paper>/results/<name>_<scale>.json`.
    **options: of `normjax.sweep.api.run_sweep`, as `workers` and `console`.

  Returns:
    The table as it was measured, as far as it was.

  Raises:
    UserError: bad input, before anything has run.
    RunError: the folder holds runs of another sweep or under other statements,
      or `save` is asked for and something is missing.
  """
  from normjax.reproduce import planned, running, saving

  plan = planned.Planned(
    name,
    scale=scale,
    rows=rows,
    seeds=seeds,
    out=out,
    overrides=overrides,
    **options,
  )
  if save:
    saving.check(plan)
  outcome = running.run(plan)
  if save:
    saving.save(plan, outcome)
  return outcome
