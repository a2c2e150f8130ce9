"""An interpreter that pretends to have PyTorch, but not adamp."""

import sys
from pathlib import Path

_SCRIPT = f"""#!{sys.executable}
import json, sys
for line in sys.stdin:
  message = json.loads(line)
  made = {{"peer": 0, "first_step_s": 1.0}}
  replies = {{
    "hello": {{"versions": {{"torch": "0", "adamp": None}}}},
    "make": made,
    "make_norm": made,
    "make_model": made,
    "steps": {{"seconds": 0.25 * message.get("count", 0)}},
    "drop": {{}},
  }}
  reply = replies[message["do"]]
  if message.get("name", "").startswith("adamp"):
    reply = {{"error": "ModuleNotFoundError: no adamp"}}
  print(json.dumps(reply), flush=True)
"""


def write(folder: Path) -> Path:
  """The path of the script, in the folder."""
  python = folder / "python"
  python.write_text(_SCRIPT)
  python.chmod(0o755)
  return python
