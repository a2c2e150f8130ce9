"""What is known of devices of a kind: `results/<device>.json`.

The file's one reader and writer. Whoever keeps something has a key of its own:
`proved` the proofs of kernels, `tuned` their tiles. It is whole or as it was.
"""

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# Keys whose values are mappings; a file with others is damaged.
PROVED, TILES = "proved", "tiles"


def path(device_kind: str) -> Path:
  """Where the results of devices of a kind are."""
  name = re.sub(r"[^a-z0-9]+", "_", device_kind.lower()).strip("_")
  return RESULTS / f"{name}.json"


def read(device_kind: str, key: str) -> Mapping[str, Any] | None:
  """What stands under a key; {} if nothing, None where the file is damaged."""
  content = _read(path(device_kind))
  return None if content is None else content.get(key, {})


def write(device_kind: str, key: str, value: Mapping[str, Any]) -> Path:
  """Writes a key's value beside those of others.

  Args:
    device_kind: as the device names itself.
    key: `PROVED` or `TILES`.
    value: of JSON.

  Returns:
    The file. A damaged one is put aside.

  Raises:
    OSError: it cannot be written.
  """
  file = path(device_kind)
  content = _content(file)
  if content is None:
    file.replace(file.with_name(f"{file.name}.damaged"))
    content = {}
  content |= {"device_kind": device_kind, key: dict(value)}
  file.parent.mkdir(exist_ok=True)
  new = file.with_name(f".{file.name}.new")
  new.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
  new.replace(file)
  forget()
  return file


def forget() -> None:
  """Files are read anew."""
  _read.cache_clear()


@functools.cache
def _read(file: Path) -> Mapping[str, Any] | None:
  return _content(file)


def _content(file: Path) -> dict[str, Any] | None:
  """What the file says; {} where there is none, None if it is damaged."""
  if not file.exists():
    return {}
  try:
    content = json.loads(file.read_text())
  except (ValueError, RecursionError):
    return None
  if not isinstance(content, dict):
    return None
  values = (content.get(key, {}) for key in (PROVED, TILES))
  return content if all(isinstance(v, dict) for v in values) else None
