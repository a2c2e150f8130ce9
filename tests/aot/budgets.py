"""What programs moved when it was last written down: budgets.json.

`make aot-budgets` adds what has no budget, a program at a time: it may be
stopped, and goes on where it was. `make aot-budgets BUDGETS=all` rewrites all
after a change that was meant, `BUDGETS=all ONLY="norm and h200"` some.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

_FILE = Path(__file__).with_name("budgets.json")
# Of what was reached: compilers differ by a little from release to release.
SLACK = 1.05
# "missing": adds budgets; "all": rewrites them too; None: holds them.
MODE = os.environ.get("NORMJAX_UPDATE_BUDGETS") or None


def read() -> dict[str, dict[str, list[int]]]:
  """Target -> program and pass -> bytes, kernels."""
  return json.loads(_FILE.read_text())


def write(target: str, reached: Mapping[str, list[int]]) -> None:
  """Sets entries of a target; by one process at a time."""
  held = read()
  held.setdefault(target, {}).update(reached)
  lines = [
    f' "{target}": {{\n'
    + ",\n".join(
      f"  {json.dumps(name)}: {json.dumps(value)}"
      for name, value in sorted(entries.items())
    )
    + "\n }"
    for target, entries in sorted(held.items())
  ]
  _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
