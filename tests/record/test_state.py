"""The states of a run are spelt in one file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import normjax
from normjax.record import state

PACKAGE = Path(normjax.__file__).parent
WORDS = {*state.RunState, "partial"}
# They know no runs, and have running statistics.
OTHERS = ("norms", "nn", "optim", "models", "adapt")


def spelt(tree: ast.AST) -> Iterator[ast.Constant]:
  """The states that are compared with, or given as a state, as bare words."""
  for node in ast.walk(tree):
    found: list[ast.expr | None] = []
    if isinstance(node, ast.Compare) and not is_event(node.left):
      for side in (node.left, *node.comparators):
        found += side.elts if isinstance(side, ast.Tuple | ast.Set) else [side]
    elif isinstance(node, ast.MatchValue):
      found = [node.value]
    elif isinstance(node, ast.Dict):
      pairs = zip(node.keys, node.values, strict=True)
      found = [v for k, v in pairs if is_text(k) and k.value == "state"]
    elif isinstance(node, ast.Assign):
      names = [t.id for t in node.targets if isinstance(t, ast.Name)]
      found = [node.value] if any("state" in n.lower() for n in names) else []
    elif isinstance(node, ast.Call):
      found = [k.value for k in node.keywords if k.arg == "state"]
      if isinstance(node.func, ast.Attribute) and node.func.attr in (
        "add", "count", "status", "write_status", "write_result",
      ):  # fmt: skip
        found += node.args
    yield from (each for each in found if is_text(each) and each.value in WORDS)


def is_event(node: ast.expr) -> bool:
  """Whether it is what a worker says: "failed" is an event's name as well."""
  return "event" in ast.unparse(node)


def is_text(node: ast.expr | None) -> bool:
  return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_no_state_is_a_bare_word_outside_its_file():
  home = Path(state.__file__)
  found = [
    f"{path.relative_to(PACKAGE)}:{word.lineno} {word.value!r}"
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != home and path.relative_to(PACKAGE).parts[0] not in OTHERS
    for word in spelt(ast.parse(path.read_text()))
  ]
  assert found == []


def test_the_search_finds_them():
  code = """
if run.state == "done" or run.state in ("failed", "x"): pass
match word:
  case "running": pass
value = {"state": "diverged", "kind": "done"}
state = "pending"
this.status("interrupted", message="failed")
attempts.add(run_id, "failed")
make(state="partial")
label = "done"
"""
  assert sorted(word.value for word in spelt(ast.parse(code))) == [
    "diverged", "done", "failed", "failed", "interrupted", "partial", "pending",
    "running",
  ]  # fmt: skip
