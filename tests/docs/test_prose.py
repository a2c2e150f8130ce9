"""The Python of README, guides and tutorials runs, as a reader would run it.

Blocks of a page share their names, in order. One that starts with `# file.py`
is that file, in the reader's folder.
"""

import importlib
import re
import shlex
import subprocess
import sys

import pytest

from normjax import beside, cli
from tests import support

PAGES = sorted(
  str(file.relative_to(support.ROOT))
  for pattern in ("README.md", "docs/guides/*.md", "docs/tutorials/*.md")
  for file in support.ROOT.glob(pattern)
)
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"^    (normjax [^\n]*)", re.MULTILINE)


def blocks_of(page: str) -> list[str]:
  """The Python blocks of a page."""
  return _BLOCK.findall((support.ROOT / page).read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The reader's folder, from which files import each other."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  before = set(sys.modules)
  importlib.invalidate_caches()
  yield tmp_path
  for name in set(sys.modules) - before:
    if not (getattr(sys.modules[name], "__file__", None) or "").startswith(
      str(tmp_path)
    ):
      continue
    del sys.modules[name]


def run_blocks(page: str, folder, names: dict | None = None) -> dict:
  """Runs a page's Python up to what its commands made; writes its files.

  Args:
    page: relative to the root.
    folder: the reader's.
    names: of blocks that ran before the commands; None: run these.

  Returns:
    The names that the blocks bound.
  """
  after = names is not None
  names = {"__name__": "page"} if names is None else names
  for block in blocks_of(page):
    if ('"runs/' in block) != after:
      continue
    if file := re.match(r"# (\w+\.py)\n", block):
      (folder / file[1]).write_text(block)
    exec(compile(block, page, "exec"), names)
    if callable(names.get("get_config")) and callable(names.get("sweep")):
      assert names.pop("sweep")().methods
      names.pop("get_config")()
  return names


@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)])
def test_python_blocks_run(page, folder):
  run_blocks(page, folder)


def test_there_are_blocks():
  assert len(blocks_of("README.md")) >= 4
  for page in ("ablate_a_norm", "swap_an_optimizer"):
    assert blocks_of(f"docs/tutorials/{page}.md")


def _run(command: str, folder) -> None:
  """As a reader does, from the folder: nothing else says where files are."""
  done = subprocess.run(
    [sys.executable, "-m", "normjax", *shlex.split(command)[1:]],
    cwd=folder,
    env=support.environment() | {"PYTHONPATH": str(support.ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_commands_of_the_ablation_run(folder):
  page = "docs/tutorials/ablate_a_norm.md"
  names = run_blocks(page, folder)
  commands = _COMMAND.findall((support.ROOT / page).read_text())
  assert len(commands) == 2
  for command in commands:
    _run(command, folder)
  assert (folder / "runs/norms/report/table.csv").exists()
  run_blocks(page, folder, names)
  assert names["logits"].shape == (4, 10)


@pytest.mark.slow
def test_a_part_of_ones_own_is_found_beside_the_sweep_file(folder):
  page = "docs/guides/own_parts.md"
  run_blocks(page, folder)
  _run("normjax sweep sweep.py --dry_run --nocompile", folder)
  norm = "--config.norm.name=own:mean_power(power=3)"
  _run(f"normjax show sweep.py --nocompile '{norm}'", folder)


def test_a_table_of_ones_own_is_planned(folder, capsys, monkeypatch):
  monkeypatch.setattr(beside, "_place", None)
  page = "docs/tutorials/reproduce_a_table.md"
  run_blocks(page, folder)
  text = (support.ROOT / page).read_text()
  name, numbers = re.findall(r"```toml\n# (\S+)\n(.*?)```", text, re.DOTALL)[0]
  (folder / name).parent.mkdir(parents=True)
  (folder / name).write_text(numbers)
  assert "    normjax reproduce mine.py --dry_run --nocompile\n" in text
  assert cli.main(["reproduce", "mine.py", "--dry_run", "--nocompile"]) == 0
  out = capsys.readouterr().out
  assert "LayerNorm is below no norm (Table 1)" in out
  assert "10 points" in out


def test_commands_name_files_that_exist():
  for page in PAGES:
    for command in _COMMAND.findall((support.ROOT / page).read_text()):
      for path in re.findall(r"configs/[\w/]+\.py", command):
        assert (support.ROOT / path).exists(), (page, command)
