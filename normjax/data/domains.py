"""Domains, or scenarios, of a table: bins of one of its columns."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from normjax import errors, validate


@dataclasses.dataclass(frozen=True)
class Domains:
  """Which domain an example is from, by the value of one column.

  The domain is the number of edges that are not above the value: 0 below the
  first, `len(edges)` from the last on.

  Attributes:
    column: its name.
    index: its place.
    edges: ascending.
  """

  column: str
  index: int
  edges: tuple[float, ...]

  @property
  def number(self) -> int:
    """How many domains there are."""
    return len(self.edges) + 1

  def of(self, inputs: np.ndarray) -> np.ndarray:
    """Of inputs (n, columns) as stored: (n,) int32."""
    found = np.searchsorted(self.edges, inputs[:, self.index], side="right")
    return found.astype(np.int32)

  def provenance(self, inputs: np.ndarray) -> dict[str, Any]:
    """What a run says of them; `inputs` are those of training."""
    sizes = np.bincount(self.of(inputs), minlength=self.number)
    return {
      "column": self.column,
      "edges": list(self.edges),
      "train_sizes": sizes.tolist(),
    }


@dataclasses.dataclass(frozen=True)
class Asked:
  """How the options of a data set say what its domains are.

  Attributes:
    column: by name; "" is none.
    bins: how many, each with as many training examples as ties allow.
    edges: between the bins, in the column's own unit; not empty, in place of
      `bins`.
  """

  column: str
  bins: int
  edges: Sequence[float]

  def found(
    self, name: str, columns: Callable[[], Sequence[str]], inputs: np.ndarray
  ) -> Domains | None:
    """The domains of a table; None where none are asked for.

    Args:
      name: of the data set, for errors.
      columns: gives the names of its columns; asked where there are some.
      inputs: those of training, (n, columns), as stored.

    Raises:
      UserError: no such column, edges that do not ascend, or a domain without
        an example to train on.
    """
    validate.count(name, "domain_bins", self.bins, least=2)
    edges = tuple(self.edges)
    if not self.column:
      if edges:
        validate.refuse(
          name, "domain_edges", edges, "() without a domain_column"
        )
      return None
    names = [str(each) for each in columns()]
    validate.choice(name, "domain_column", self.column, names)
    index = names.index(self.column)
    if edges:
      option = f"domain_edges={edges}"
      numbers = all(
        isinstance(e, int | float) and not isinstance(e, bool) for e in edges
      )
      if not numbers or not all(np.diff(edges) > 0):
        validate.refuse(name, "domain_edges", edges, "ascending numbers")
    else:
      option = f"domain_bins={self.bins}"
      shares = np.arange(1, self.bins) / self.bins
      quantiles = np.quantile(inputs[:, index].astype(np.float64), shares)
      edges = tuple(map(float, quantiles))
    made = Domains(self.column, index, edges)
    sizes = np.bincount(made.of(inputs), minlength=made.number)
    if not sizes.all():
      values = inputs[:, index]
      raise errors.UserError(
        f"data {name!r}: {option} leaves domains of {self.column!r} without an"
        f" example to train on: {sizes.tolist()}. Its values go from"
        f" {values.min():g} to {values.max():g}, {len(np.unique(values))}"
        " different ones; allowed: domain_edges between them."
      )
    return made
