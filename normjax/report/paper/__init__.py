"""A published table: the paper's numbers beside measured ones, and verdicts.

    <out>/table.md        the table and the statements, for a page
    <out>/table.csv       a line per cell and statement, unrounded
    <out>/table.json      the same for programs
    <out>/table.html      one file, with links to the reports of its sweeps

`measured` reads loaded sweeps, `judge` decides, `write` and `print_table` show,
`results` is what is committed. Nothing here imports jax.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from normjax.report.paper.judged import (
    Judged,
    attainable,
    committed,
    judge,
    results,
  )
  from normjax.report.paper.measure import Measured, measured
  from normjax.report.paper.numbers import Beside
  from normjax.report.paper.origin import Origin
  from normjax.report.paper.show import Paths, print_table, write
  from normjax.report.paper.statements import Statement

# Imported when asked for: the list of tables must not wait for scipy.
_LAZY = {
  "Beside": "numbers",
  "Judged": "judged",
  "Measured": "measure",
  "Origin": "origin",
  "Paths": "show",
  "Statement": "statements",
  "attainable": "judged",
  "committed": "judged",
  "judge": "judged",
  "measured": "measure",
  "print_table": "show",
  "results": "judged",
  "write": "show",
}

__all__ = [
  "Beside",
  "Judged",
  "Measured",
  "Origin",
  "Paths",
  "Statement",
  "attainable",
  "committed",
  "judge",
  "measured",
  "print_table",
  "results",
  "write",
]


def __getattr__(name: str) -> Any:
  """Imports a part when it is first asked for (PEP 562)."""
  if name not in _LAZY:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  import importlib

  return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
