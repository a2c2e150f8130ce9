"""Rules that every source file keeps."""

import ast
from pathlib import Path

import pytest

from normjax import configure
from tests import support

SOURCES = sorted(
  path
  for package in ("normjax", "kernels_pallas")
  for path in (support.ROOT / package).rglob("*.py")
)
CONFIGS = sorted(configure.configs_dir().rglob("*.py"))
MOST_LINES = 400


def _name(path: Path) -> str:
  return str(path.relative_to(support.ROOT))


def _public(tree: ast.Module):
  """Public functions, classes and methods of public classes."""
  kinds = ast.FunctionDef | ast.ClassDef
  for node in tree.body:
    if isinstance(node, kinds) and not node.name.startswith("_"):
      yield node.name, node
      for child in getattr(node, "body", ()):
        if (
          isinstance(node, ast.ClassDef)
          and isinstance(child, ast.FunctionDef)
          and not child.name.startswith("_")
        ):
          yield f"{node.name}.{child.name}", child


@pytest.mark.parametrize("path", SOURCES + CONFIGS, ids=_name)
def test_everything_public_has_a_docstring(path):
  tree = ast.parse(path.read_text())
  assert ast.get_docstring(tree), "the module has none"
  missing = [name for name, n in _public(tree) if not ast.get_docstring(n)]
  assert missing == []


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_files_are_short_enough_to_read(path):
  assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
  "path",
  [p for p in CONFIGS if p.parent.name in ("sweeps", "papers")],
  ids=_name,
)
def test_a_sweeps_head_says_claim_command_and_time(path):
  head = ast.get_docstring(ast.parse(path.read_text())) or ""
  for word in ("Claim:", "Command: normjax", "Time:"):
    assert word in head
