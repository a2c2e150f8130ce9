"""A folder of one's own with a published table, and ways to run it."""

import os
import sys
from pathlib import Path

import pytest
import rich.console

from normjax import beside, config_files

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))

# Runs of the toy runner: no jax, a loss that depends on the config alone.
TABLE = '''"""Does a short name help?

Claim: a method called a is better than one called bb.
Command: normjax reproduce toy
Time: none.
"""

import ml_collections
import numpy as np
from normjax import papers
from normjax.sweep import Sweep

SCALES = ("proxy", "paper")


def get_config(arg="proxy"):
  return ml_collections.ConfigDict({
    "seed": 0,
    "optimizer": {"name": "toy", "learning_rate": 0.1},
    "train": {"num_steps": 2},
    "toy": {"name": "a", "width": 1, "trouble": "TROUBLE", "optimum": 0.1,
            "diverges_above": 100.0, "step_s": 0.0},
  })


def sweep(arg="proxy"):
  names = ("a", "bb") if "," not in arg else ("ccc",)
  methods = [{"toy.name": n, "train.num_steps": 1 + len(n)} for n in names]
  return Sweep(methods=methods, labels=names, seeds=(1, 2))


def measure(scale):
  return {"exact": [2.0]}


def table(scale):
  return papers.Table(
    title="Names",
    paper="toys",
    target="Table 1",
    cells=[CELLS],
    expected=[EXPECTED],
    hardware="nothing",
    differs="It is a toy.",
    parts=(PARTS),
  )
'''
CELLS = 'papers.Cell("a", paper=("a", "loss")), papers.Cell("b", method="bb")'
EXPECTED = 'papers.below("a", "b", by=0.5, source="Table 1")'
TARGETS = """
title = "On toys"
arxiv = "2601.00001"
code = "none"
claim = "short names help"

[[tables]]
id = "Table 1"
kind = "result"
metric = "loss"
direction = "lower"
source = "Table 1"
rows = [
  { method = "a", column = "loss", value = 1.25, mark = "paper" },
]
"""


class Project:
  """The folder, which is the current one."""

  def __init__(self, folder: Path):
    self.folder = folder
    self.console = rich.console.Console(
      file=(folder / "said.txt").open("w+"), width=200
    )
    (folder / "configs" / "papers").mkdir(parents=True)
    (folder / "experiments" / "toys").mkdir(parents=True)
    self.targets = folder / "experiments" / "toys" / "targets.toml"
    self.targets.write_text(TARGETS)
    self.write()

  def write(
    self,
    cells: str = CELLS,
    expected: str = EXPECTED,
    parts: str = '"sweep",',
    trouble: str = "",
    replacing: tuple[str, str] = ("", ""),
  ) -> None:
    """Writes the table's file."""
    text = TABLE.replace("CELLS", cells).replace("EXPECTED", expected)
    text = text.replace("PARTS", parts).replace("TROUBLE", trouble)
    path = self.folder / "configs" / "papers" / "toy.py"
    path.write_text(text.replace(*replacing) if replacing[0] else text)

  def run(self, name: str = "toy", **options):
    """Runs the table with the toy runner, in this process."""
    import toy_runner
    from in_process import InProcess

    from normjax import reproduce

    return reproduce.run(
      name,
      **{
        "console": self.console,
        "runner": "toy_runner:run",
        "program_key": toy_runner.program_key,
        "executor": InProcess,
        "retries": 0,
        **options,
      },
    )

  def said(self) -> str:
    """What was printed since the last call."""
    file = self.console.file
    text = (file.flush(), file.seek(0), file.read())[-1]
    file.seek(0)
    file.truncate()
    return text


@pytest.fixture
def project(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.setattr(beside, "_place", None)
  monkeypatch.chdir(tmp_path)
  config_files._say_hidden.cache_clear()
  made = Project(tmp_path)
  yield made
  made.console.file.close()
  os.chdir(Path(__file__).parent)


@pytest.fixture(autouse=True)
def no_reports(monkeypatch, request):
  """Figures of a part's own report take a second to draw."""
  if "draws" not in request.keywords:
    monkeypatch.setattr("normjax.report.write_report", lambda out: None)
