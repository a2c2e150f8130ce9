"""Documents in a user's text files: found, read, cut, and checked."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from normjax import errors
from normjax.data import files

_LINES = frozenset({".jsonl", ".ndjson"})
SUFFIXES = _LINES | {".txt", ".md", ".text", ".rst", ".tex"}
UNITS = ("file", "paragraph", "line")
_GLOB = re.compile(r"[*?\[]")
_BOM = b"\xef\xbb\xbf"
# Up to and with the empty lines behind it.
_PARAGRAPH = re.compile(rb".+?(?:\n(?:[ \t]*\r?\n)+|\Z)", re.DOTALL)


class Cut(NamedTuple):
  """How files are cut into documents.

  Attributes:
    unit: one of `UNITS`; of JSONL, a document is a line's `key`.
    key: see `unit`.
    end: bytes that end a whole file or an entry of JSONL.
  """

  unit: str
  key: str
  end: bytes


def find(
  option: str, value: Any, bad: files.BadFiles
) -> tuple[Path, list[str]]:
  """The files that an option names, and the folder that they are below.

  Args:
    option: of the config.
    value: a file, a folder or a pattern with * and **; relative to the current
      folder.
    bad: gets what cannot be read.

  Raises:
    UserError: nothing is there.
  """
  text = str(value or "")
  if _GLOB.search(text) and not Path(text).exists():
    parts = Path(text).expanduser().parts
    fixed = next(i for i, part in enumerate(parts) if _GLOB.search(part))
    root = files.given_path(option, Path(*parts[:fixed]))
    try:
      matches = sorted(root.glob("/".join(parts[fixed:])))
    except ValueError as error:
      raise errors.UserError(f"{option}={text!r}: {error}.") from error
    names = [p.relative_to(root).as_posix() for p in matches if p.is_file()]
    remedy = "a pattern, as in 'corpus/**/*.txt', that matches files"
  else:
    path = files.given_path(option, value)
    if path.is_file():
      return path.parent, [path.name]
    root = path
    names, _ = files.walk(root, "", SUFFIXES, bad)
    remedy = f"files {' '.join(sorted(SUFFIXES))}, or a pattern of others"
  if not names:
    raise errors.DataError(f"{option}={text!r} has no files; needed: {remedy}.")
  return root, names


def without(
  root: Path, names: list[str], taken: tuple[Path, list[str]]
) -> list[str]:
  """The names whose files are not among the taken ones."""
  others = {os.path.realpath(taken[0] / name) for name in taken[1]}
  return [n for n in names if os.path.realpath(root / n) not in others]


def read(
  root: Path, names: list[str], cut: Cut, bad: files.BadFiles
) -> Iterator[bytes]:
  """The documents of files, in order; none is empty.

  Args:
    root: of the names.
    names: of the files.
    cut: how they are cut.
    bad: gets files and lines that are no text.
  """
  for name in names:
    try:
      if Path(name).suffix.lower() in _LINES:
        yield from _entries(root / name, name, cut, bad)
      else:
        yield from _text(root / name, name, cut, bad)
    except OSError as error:
      bad.add(name, str(error.strerror))


def _text(
  file: Path, name: str, cut: Cut, bad: files.BadFiles
) -> Iterator[bytes]:
  data = file.read_bytes().removeprefix(_BOM)
  if not data.strip():
    bad.add(name, "empty")
    return
  try:
    data.decode()
  except UnicodeDecodeError as error:
    bad.add(name, f"not UTF-8 at byte {error.start}")
    return
  if cut.unit == "file":
    yield data + cut.end
    return
  pieces = (
    data.splitlines(keepends=True)
    if cut.unit == "line"
    else _PARAGRAPH.findall(data)
  )
  yield from (piece for piece in pieces if piece.strip())


def _entries(
  file: Path, name: str, cut: Cut, bad: files.BadFiles
) -> Iterator[bytes]:
  found = False
  with file.open("rb") as lines:
    for number, line in enumerate(lines, 1):
      if not line.strip():
        continue
      found = True
      text = _entry(line, cut.key)
      if isinstance(text, bytes):
        yield text + cut.end
      else:
        bad.add(f"{name}:{number}", text)
  if not found:
    bad.add(name, "empty")


def _entry(line: bytes, key: str) -> bytes | str:
  """The text of a line of JSONL; or, as str, why there is none."""
  try:
    value = json.loads(line)
  except UnicodeDecodeError:
    return "not UTF-8"
  except (ValueError, RecursionError):  # Of brackets nested too deep.
    return "no JSON"
  if not isinstance(value, dict) or key not in value:
    there = ", ".join(value) if isinstance(value, dict) else "no object"
    return f"no key {key!r}: {there}"
  if not isinstance(value[key], str) or not value[key].strip():
    return f"{key!r} is no text" if value[key] != "" else "empty"
  try:
    return value[key].encode()
  except UnicodeEncodeError:  # Half of a surrogate pair.
    return "not UTF-8"
