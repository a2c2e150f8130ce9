"""Flags of `normjax reproduce`, and what it says of bad ones."""

import pytest

from normjax import cli

TABLE = '''"""Does it help?"""
from normjax import configure, papers
from normjax.sweep import Sweep

SCALES = ("proxy",)

def get_config(arg="proxy"):
  return configure.load("configs/default.py")

def sweep(arg="proxy"):
  return Sweep(methods=[{"norm.name": "dyt"}, {"norm.name": "rms_norm"}])

def table(scale):
  return papers.Table(
    title="Norms", paper="mine", target=None, hardware="a lot",
    differs="In nothing.", time="1 h", cells=[papers.Cell("dyt")],
    expected=[papers.at_most("dyt", 3)],
  )
'''
TARGETS = 'title = "T"\narxiv = "2601.00001"\ncode = "none"\nclaim = "c"\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
  import sys

  from normjax import beside

  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.setattr(beside, "_place", None)
  monkeypatch.chdir(tmp_path)
  for name, text in (
    ("configs/papers/mine_table.py", TABLE),
    ("experiments/mine/targets.toml", TARGETS),
  ):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text)
  return tmp_path


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ([], "needs one table, got 0: usage: normjax reproduce --list | NAME"),
    (["mine_tabel"], "no table 'mine_tabel'. Did you mean 'mine_table'"),
    (["mine_table", "--scale=tiny"], "proxy|small|paper"),
    (["mine_table", "--scale=paper"], "does not have it; its scales: proxy."),
    (["mine_table", "--rows=x"], "--rows='x' matches no row. Rows: dyt."),
    (["mine_table", "--seeds=1-3"], "--seeds=1-3: whole numbers with commas"),
    (["mine_table", "--out="], "--out= is empty"),
    (["mine_table", "--nocompile"], "--nocompile is for --dry_run"),
    (["mine_table", "--dry_run", "--save"], "--save is not for --dry_run"),
    (["mine_table", "--config.norm.name=dyt"], "the sweep sets it"),
    (["mine_table", "--config.seeed=1"], "'seeed'"),
    (
      ["mine_table", "--save", "--config.train.num_steps=2"],
      "--save: overridden: train.num_steps=2",
    ),
    (["--list", "mine_table"], "mine_table: --list shows all tables: usage"),
  ],
)
def test_bad_choices(capsys, folder, given, said):
  assert cli.main(["reproduce", *given]) == 2
  assert said in capsys.readouterr().err
  assert not (folder / "runs").exists()


def test_the_list_has_a_line_per_table_and_scale(capsys, folder):
  assert cli.main(["reproduce", "--list"]) == 0
  lines = capsys.readouterr().out.splitlines()
  own = next(line for line in lines if line.startswith("mine_table"))
  assert own.split() == [
    *("mine_table", "2601.00001", "proxy", "not", "run", "1", "h"),
    *("Does", "it", "help?"),
  ]


def test_a_broken_table_is_told_after_the_list(capsys, folder):
  (folder / "configs" / "papers" / "broken.py").write_text("import nothing_at")
  assert cli.main(["reproduce", "--list"]) == 2
  out, err = capsys.readouterr()
  assert "mine_table" in out
  assert "broken.py does not import" in err


def test_a_table_is_shown_as_any_config(capsys, folder):
  """Its sweep too: a table's file is a sweep file."""
  file = "configs/papers/mine_table.py:proxy"
  assert cli.main(["sweep", file, "--dry_run", "--nocompile"]) == 0
  assert "6 points" in capsys.readouterr().out
  assert cli.main(["show", file, "--nocompile"]) == 0
  assert "total:" in capsys.readouterr().out


def test_a_dry_run_prints_what_is_expected(capsys, folder):
  command = ["reproduce", "mine_table", "--dry_run", "--nocompile"]
  assert cli.main(command) == 0
  out = capsys.readouterr().out
  assert "dyt is at most 3" in out
  assert "Needs a lot; 1 h." in out
  assert "What it can decide of these: 3 seeds" in out
  assert not (folder / "runs").exists()


def test_a_cell_whose_metric_no_run_will_have_is_named(capsys, folder):
  path = folder / "configs" / "papers" / "mine_table.py"
  cell = 'papers.Cell("dyt", metric="steps_to(eval/lss<=2)")'
  path.write_text(path.read_text().replace('papers.Cell("dyt")', cell))
  assert cli.main(["reproduce", "mine_table"]) == 2
  said = "cell dyt: method 'dyt': Cell.metric 'eval/lss' will be in no result."
  assert said in capsys.readouterr().err
  assert not (folder / "runs").exists()
