"""What programs moved when it was last written down: budgets.json.

`make aot-budgets` rewrites it after a change that was meant.
"""

import json
import os
from pathlib import Path

_FILE = Path(__file__).with_name("budgets.json")
# Of what was reached: compilers differ by a little from release to release.
SLACK = 1.05
UPDATES = bool(os.environ.get("NORMJAX_UPDATE_BUDGETS"))


def read() -> dict[str, dict[str, list[int]]]:
  """Target -> program and pass -> bytes, kernels."""
  return json.loads(_FILE.read_text())


def write(target: str, name: str, reached: list[int]) -> None:
  """Sets one entry; by one process at a time."""
  held = read()
  held.setdefault(target, {})[name] = reached
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
