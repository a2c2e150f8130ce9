"""What tables by depth share: a row per network, a column per depth."""

from collections.abc import Iterable

from normjax.papers.statements import Ref
from normjax.papers.table import Cell


def label(network: str, depth: int) -> str:
  """Of the sweep's method."""
  return f"{network}, {depth} layers"


def ref(network: str, depth: int) -> Ref:
  """Of the cell."""
  return network, f"{depth} layers"


def cells(networks: Iterable[str], depths: Iterable[int]) -> list[Cell]:
  """A row's cells, a depth per column."""
  depths = tuple(depths)
  return [
    Cell(*ref(network, depth), method=label(network, depth))
    for network in networks
    for depth in depths
  ]
