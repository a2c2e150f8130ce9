"""Rules that every source file keeps."""

import ast
from pathlib import Path

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


def _is_overload(node: ast.AST) -> bool:
  """Whether it is a signature alone; the function below it is documented."""
  decorators = getattr(node, "decorator_list", ())
  return any(ast.unparse(d) == "overload" for d in decorators)


def _public(tree: ast.Module):
  """Public functions, classes and methods of public classes."""
  kinds = ast.FunctionDef | ast.ClassDef
  for node in tree.body:
    if _is_overload(node):
      continue
    if isinstance(node, kinds) and not node.name.startswith("_"):
      yield node.name, node
      for child in getattr(node, "body", ()):
        if (
          isinstance(node, ast.ClassDef)
          and isinstance(child, ast.FunctionDef)
          and not child.name.startswith("_")
        ):
          yield f"{node.name}.{child.name}", child


def test_everything_public_has_a_docstring():
  missing = []
  for path in SOURCES + CONFIGS:
    tree = ast.parse(path.read_text())
    if not ast.get_docstring(tree):
      missing.append(_name(path))
    missing += [
      f"{_name(path)}: {name}"
      for name, node in _public(tree)
      if not ast.get_docstring(node)
    ]
  assert missing == []


def test_files_are_short_enough_to_read():
  lines = {_name(path): len(path.read_text().splitlines()) for path in SOURCES}
  assert {k: n for k, n in lines.items() if n > MOST_LINES} == {}


def test_a_sweeps_head_says_claim_command_and_time():
  sweeps = [p for p in CONFIGS if p.parent.name in ("sweeps", "papers")]
  missing = [
    f"{_name(path)}: {word}"
    for path in sweeps
    for word in ("Claim:", "Command: normjax", "Time:")
    if word not in (ast.get_docstring(ast.parse(path.read_text())) or "")
  ]
  assert missing == []


def test_the_files_are_found():
  """The rules above are about something."""
  assert len(SOURCES) > 200
  assert {p.parent.name for p in CONFIGS} >= {"norms", "optimizers", "sweeps"}
