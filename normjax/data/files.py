"""A user's files: finding them, what is wrong with them, whether they changed.

What cannot be used is collected, so that one message names all of it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from normjax import configure, errors, validate
from normjax.data import cache

POLICIES = ("refuse", "skip")
_MOST_NAMED, _MOST_KEPT = 5, 20
# Up to here all bytes are hashed; up to the first, on every start.
_HASHED_AT_ONCE_BYTES = 64 << 20
_HASHED_WHOLE_BYTES = 4 << 30
_END_BYTES = 4096


class BadFiles:
  """What cannot be used of the user's files, and what becomes of that.

  Attributes:
    found: (what, why) of each.
  """

  def __init__(self, owner: str, policy: str):
    """None yet.

    Args:
      owner: the data set.
      policy: "refuse" or "skip".

    Raises:
      UserError: another policy.
    """
    validate.choice(owner, "on_bad_file", policy, POLICIES)
    self._policy = policy
    self.found: list[tuple[str, str]] = []

  @property
  def skips(self) -> bool:
    """Whether they are left out; else they are refused."""
    return self._policy == "skip"

  def add(self, what: str, why: str) -> None:
    """Notes one."""
    self.found.append((what, why))

  def names(self) -> set[str]:
    """What was noted."""
    return {what for what, _ in self.found}

  def settle(self, where: Any, total: int, unit: str = "files") -> None:
    """Refuses what was found, unless it is to be left out.

    Args:
      where: the files are.
      total: of what was looked at.
      unit: of what was looked at.

    Raises:
      DataError: something was found, and is refused.
    """
    if self.found and not self.skips:
      raise errors.DataError(
        f"on_bad_file={self._policy!r}: of {total} {unit} of {where},"
        f" {self.say()}. Mend or remove them, or set data.on_bad_file='skip',"
        " which leaves them out and says so in run.json."
      )

  def say(self) -> str:
    """How many, and the first of them with what is wrong."""
    named = [f"{what} ({why})" for what, why in self.found]
    few = errors.few(named, _MOST_NAMED)
    return f"{len(named)} cannot be used: {few}"

  def notes(self) -> list[str]:
    """What a run notes of it: one sentence, or none."""
    return [f"data left out: {self.say()}"] if self.found else []

  def provenance(self) -> dict[str, Any]:
    """What `run.json` says of it."""
    return {
      "count": len(self.found),
      "first": [f"{what}: {why}" for what, why in self.found[:_MOST_KEPT]],
    }


def given_path(option: str, value: Any) -> Path:
  """The path that an option names; relative to the current folder.

  Raises:
    UserError: there is none; the message says what is there instead.
  """
  if not isinstance(value, str | os.PathLike) or not str(value):
    said = option if value is None else f"{option}={value!r}"
    raise errors.UserError(
      f"{said}: needed: the path of your data, as in"
      f" --config.data.{option}=PATH."
    )
  path = Path(value).expanduser()
  try:
    if path.exists():
      return path
  except (OSError, ValueError) as error:  # Too long, or a NUL.
    raise errors.UserError(f"{option}={str(value)!r}: {error}.") from error
  above = next((p for p in path.absolute().parents if p.is_dir()), Path("/"))
  there = sorted(p.name for p in above.iterdir() if not is_hidden(p.name))
  said = errors.few(there, _MOST_KEPT) or "nothing"
  raise errors.DataError(
    f"{option}={str(value)!r}: there is no {path.absolute()}. In {above}"
    f" there is {said}."
  )


def is_hidden(name: str) -> bool:
  """Whether a name is one of those that systems leave, as .DS_Store."""
  return name.startswith(".")


def walk(
  root: Path, below: str, suffixes: Collection[str], bad: BadFiles
) -> tuple[list[str], int]:
  """The files below a folder; links are followed, but not back up.

  Args:
    root: of the names.
    below: the folder to look in, relative to the root; "" is the root.
    suffixes: lower case, as ".png"; others are passed over.
    bad: gets folders that cannot be read, and links that lead back.

  Returns:
    Paths relative to the root, with "/", sorted; how many were passed over.
  """
  found: list[str] = []
  others = 0
  start = root / below
  above_start = [*start.resolve().parents, *([root.resolve()] if below else [])]

  # Names as text: Path would take most of the time of 100,000 files.
  def visit(name: str, above: frozenset[str]) -> None:
    nonlocal others
    folder = os.path.join(root, name)
    real = os.path.realpath(folder)
    if real in above:
      bad.add(name, "a link to a folder above it")
      return
    try:
      entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
      bad.add(name, str(error.strerror))
      return
    for entry in entries:
      inner = f"{name}/{entry.name}" if name else entry.name
      if is_hidden(entry.name):
        continue
      if entry.is_dir():
        visit(inner, above | {real})
      elif os.path.splitext(entry.name)[1].lower() not in suffixes:
        others += 1
      elif not entry.is_file():
        bad.add(inner, "a link to nothing")
      else:
        found.append(inner)

  visit(below, frozenset(map(str, above_start)))
  return found, others


class Fingerprint(NamedTuple):
  """What a set of files holds, as short as a hash.

  Attributes:
    key: changes with any name, size or time of writing: for what is kept.
    value: changes with the content alone: for what a run is.
    of: what `value` is the hash of.
    total_bytes: of all files.
  """

  key: str
  value: str
  of: str
  total_bytes: int

  def provenance(self) -> dict[str, Any]:
    """What `run.json` says of it."""
    return {
      "fingerprint": self.value,
      "fingerprint_of": self.of,
      "bytes": self.total_bytes,
    }


def fingerprint(root: Path, names: Iterable[str]) -> Fingerprint:
  """The fingerprint of files; copies elsewhere have the same `value`.

  Where they are many bytes, it is kept in the cache for as long as names,
  sizes and times stay. Where they are very many, only the first and the last
  bytes of each are hashed, with its name and size.

  Args:
    root: of the names.
    names: of readable files.
  """
  stats = {name: _stat(os.path.join(root, name)) for name in names}
  total = sum(size for size, _ in stats.values())
  key = configure.digest([str(root.resolve()), stats])
  whole = total <= _HASHED_WHOLE_BYTES
  of = "names and contents" if whole else "names, sizes, first and last bytes"

  def compute() -> str:
    digest = hashlib.sha256()
    for name, (size, _) in stats.items():
      digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
      for block in _blocks(root / name, size, whole):
        digest.update(block)
    return digest.hexdigest()

  if total <= _HASHED_AT_ONCE_BYTES:
    value = compute()
  else:
    facts = kept_facts(f"fingerprints/{key}", lambda: {"value": compute()})
    value = facts["value"]
  return Fingerprint(key, value, of, total)


def kept_facts(
  name: str, compute: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any]:
  """What JSON can hold, computed once and kept in the cache."""
  folder = cache.entry(name, lambda draft: write_facts(draft, compute()))
  return read_facts(folder)


_FACTS = "facts.json"


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
  """Puts facts into an entry of the cache."""
  (folder / _FACTS).write_text(json.dumps(facts))


def read_facts(folder: Path) -> Any:
  """What `write_facts` has put there."""
  return json.loads((folder / _FACTS).read_text())


def _stat(file: str) -> tuple[int, int]:
  try:
    found = os.stat(file)
  except OSError:  # What reads it says so.
    return 0, 0
  return found.st_size, found.st_mtime_ns


def _blocks(file: Path, size: int, whole: bool) -> Iterator[bytes]:
  try:
    with file.open("rb") as stream:
      if whole:
        while block := stream.read(1 << 20):
          yield block
        return
      yield stream.read(_END_BYTES)
      stream.seek(max(size - _END_BYTES, 0))
      yield stream.read(_END_BYTES)
  except OSError:  # What reads it says so.
    yield b"unreadable"
