"""Measured cells by hand, and a user's targets."""

import random

import pytest

from normjax import papers
from normjax.report import paper
from tests.papers.conftest import write_targets as write_targets


def trained(values, diverged=(), planned=None, **more) -> paper.Measured:
  """A trained cell: values by seed, or in the order of seeds 0, 1, …"""
  values = values if isinstance(values, dict) else dict(enumerate(values))
  seeds = frozenset(values) | frozenset(diverged)
  over = len(seeds)
  return paper.Measured(
    values, frozenset(diverged), over, over if planned is None else planned,
    seeds=seeds, **{"is_tuned": True, "metric": "eval/loss", **more},
  )  # fmt: skip


def computed(*values) -> paper.Measured:
  """A cell of `measure`."""
  table = papers.Table(
    "t", "norms", None, [papers.Cell("a", part="measure")], (), "", "",
    parts=("measure",),
  )  # fmt: skip
  return paper.measured(table, {}, {"a": values})["a"]


def around(mean: float, sd: float, num_seeds: int = 5) -> dict[int, float]:
  """Values by seed whose mean and standard deviation are these."""
  draw = random.Random(f"{mean} {sd} {num_seeds}")
  raw = [draw.gauss(0, 1) for _ in range(num_seeds)]
  middle = sum(raw) / num_seeds
  spread = (sum((r - middle) ** 2 for r in raw) / (num_seeds - 1)) ** 0.5
  return {s: mean + sd * (r - middle) / spread for s, r in enumerate(raw)}


def stated(*expected, refs="abcd", target=None, **more) -> papers.Table:
  """A table of cells a to d with statements."""
  cells = more.pop("cells", [papers.Cell(ref) for ref in refs])
  return papers.Table(
    "A table", "norms", target, cells, expected, "two cores", "Smaller.", **more
  )


@pytest.fixture
def judge(write_targets):
  """The statements of a table about cells a to d."""
  write_targets()

  def judge(expected, scale="proxy", **cells):
    expected = expected if isinstance(expected, list) else [expected]
    refs = list(cells)
    return paper.judge(stated(*expected, refs=refs), scale, cells)

  return judge
