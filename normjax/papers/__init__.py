"""Published tables: what a paper printed, and what is expected of it here.

A file of `configs/papers` is a sweep file with a `table(scale)`:

    from normjax import papers

    def table(scale: str) -> papers.Table:
      return papers.Table(
        title="SELU by depth",
        paper="selu",
        target=None,
        cells=[papers.Cell("selu 32"), papers.Cell("relu 32")],
        expected=[papers.above("selu 32", "relu 32", by=0.1)],
        hardware="two CPU cores",
        differs="Digits in place of 121 sets.",
        direction="higher",
      )

Nothing here imports jax.
"""

from normjax.papers.statements import (
  Expected,
  Ref,
  above,
  at_least,
  at_most,
  below,
  between,
  diverges,
  exactly,
  ratio_above,
  ratio_below,
  shown,
  trains,
  within,
)
from normjax.papers.table import (
  MEASURE,
  SCALES,
  SWEEP,
  Cell,
  Table,
  argument,
  digest,
  told,
)

__all__ = [
  "MEASURE",
  "SCALES",
  "SWEEP",
  "Cell",
  "Expected",
  "Ref",
  "Table",
  "above",
  "argument",
  "at_least",
  "at_most",
  "below",
  "between",
  "digest",
  "diverges",
  "exactly",
  "ratio_above",
  "ratio_below",
  "shown",
  "told",
  "trains",
  "within",
]
