"""JSON files that are whole or absent, and metric rows that survive a kill."""

import errno
import itertools
import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from normjax import errors, faults
from normjax.record import due

SCHEMA = 1
RUN = "run.json"
METRICS = "metrics.jsonl"
STATUS = "status.json"
RESULT = "result.json"
CHECKPOINTS = "ckpt"

Row = dict[str, Any]
# What a row holds beside its metrics; the first of a file the last one too.
EVAL_EXAMPLES = "eval_examples"
ROW_KEYS = ("step", "kind", "time_s", "run_id", EVAL_EXAMPLES)


def finite(value: Any) -> Any:
  """`value` with every non-finite float replaced by None, recursively.

  JSON has no NaN, and a report must not have to guess.
  """
  if isinstance(value, Mapping):
    return {key: finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
  """Replaces a file with a text, as `write_bytes` does."""
  write_bytes(path, text.encode(), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
  """Replaces a file at once: a reader sees the old one or the new one.

  Args:
    path: its folder is made where missing.
    content: the new one.
    durable: whether it must survive a power cut; costs a flush of the disk.
  """
  faults.make_folder(path.parent)
  # Not `tempfile`: its files are for their owner alone, ours as umask says.
  new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    with faults.naming(path), new.open("xb") as file:
      file.write(content)
      if durable:
        file.flush()
        os.fsync(file.fileno())
    try:
      os.replace(new, path)
    except OSError as error:  # The new file's name is of no use to anybody.
      error.filename, error.filename2 = str(path), None
      raise
  except BaseException:
    new.unlink(missing_ok=True)
    raise


# Of file systems that have no hard links.
_NO_LINKS = (
  errno.EPERM,
  errno.EACCES,
  errno.EMLINK,
  errno.ENOSYS,
  errno.EOPNOTSUPP,
  errno.EXDEV,
)


def create_text(path: Path, text: str) -> bool:
  """Makes a file, whole, unless there is one: of several, one process does.

  A hard link is what all file systems of clusters make at once and on their
  server, NFS too, where an answer may be lost: the link is made and said to
  have failed. The number of names then tells.

  Args:
    path: its folder is made where missing.
    text: what it holds.

  Returns:
    Whether this process made it.
  """
  faults.make_folder(path.parent)
  new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    with faults.naming(path), new.open("xb") as file:
      file.write(text.encode())
    try:
      os.link(new, path)
    except OSError as error:
      if new.stat().st_nlink > 1:
        return True
      if isinstance(error, FileExistsError):
        return False
      if error.errno not in _NO_LINKS:
        error.filename, error.filename2 = str(path), None
        raise
      return _create_exclusively(path, text)
    return True
  finally:
    new.unlink(missing_ok=True)


def _create_exclusively(path: Path, text: str) -> bool:
  """As `create_text`; a reader may find it empty for a moment."""
  try:
    with path.open("xb") as file:
      file.write(text.encode())
  except FileExistsError:
    return False
  return True


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
  """Writes JSON atomically; non-finite numbers become null."""
  text = json.dumps(finite(value), indent=2, allow_nan=False)
  write_text(path, text + "\n", durable=durable)


def read_json(path: Path) -> Any | None:
  """The file's value, or None where there is no file.

  Raises:
    RunError: the file is not JSON.
  """
  try:
    return _DECODER.decode(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (ValueError, RecursionError) as error:
    raise errors.RunError(f"{path} is not valid JSON: {error}") from error


def _refuse(constant: str) -> None:
  """Python's own readers and writers know NaN and Infinity; JSON does not."""
  raise ValueError(f"it says {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def set_aside(path: Path) -> Path:
  """Moves a file that is not what it should be out of the way, keeping it."""
  numbered = (f"-{number}" for number in itertools.count(2))
  names = (f"{path.name}.corrupt{n}" for n in itertools.chain([""], numbered))
  asides = (path.with_name(name) for name in names)
  return path.replace(next(aside for aside in asides if not aside.exists()))


def read_rows(path: Path, run_id: str = "") -> tuple[list[Row], list[str]]:
  """Rows of a metrics.jsonl, and a note for each line that is none.

  A process killed while writing leaves at most a truncated last line. The
  first row says whose the file is, unless an earlier version wrote it.

  Args:
    path: of the file.
    run_id: whose it should be; "" reads anybody's.
  """
  rows, problems = [], []
  try:
    text = path.read_bytes().decode(errors="replace")
  except FileNotFoundError:
    return rows, problems
  except OSError as error:
    return rows, [f"{path} cannot be read: {error.strerror}"]
  for number, line in enumerate(text.splitlines(), 1):
    try:
      line = line.strip()
      row, end = _DECODER.raw_decode(line)
      owner = row.pop("run_id", run_id)
      fits = end == len(line) and is_row(row)
    except (ValueError, TypeError, AttributeError, RecursionError):
      fits = False
    if not fits:
      problems.append(f"{path}:{number} is not a metric row; dropped")
    elif run_id and owner != run_id:
      return [], [f"{path} is of run {owner}, not of this one"]
    else:
      rows.append(row)
  return rows, problems


def is_row(value: Row) -> bool:
  """Whether a mapping has a step, a kind, and else numbers or null."""
  step, kind = value.get("step"), value.get("kind")
  if type(step) is not int or not isinstance(kind, str):
    return False
  others = [v for k, v in value.items() if k != "kind" and v is not None]
  try:
    return all(map(math.isfinite, others))
  except (TypeError, OverflowError):  # No number, or one of 300 digits.
    return False


# Kind of a row to the block of the config whose `every_steps` says how often.
_BLOCKS = {"eval": "evaluate", "train": "log"}


def lost_rows(
  rows: Iterable[Row], step: int, config: Mapping[str, Any]
) -> list[str]:
  """What is wrong with the rows of the steps before a checkpoint, if anything.

  They were on disk before it was: another file lies there than was written.

  Args:
    rows: of the file.
    step: of the checkpoint.
    config: of the run, plain; of another runner's, which does not say how often
      there is a row, nothing is known.
  """
  rows = list(rows)
  wrong = []
  for kind, name in _BLOCKS.items():
    block = config.get(name)
    every = block.get("every_steps") if isinstance(block, Mapping) else None
    if type(every) is not int or every < 1:
      continue
    found = [r["step"] for r in rows if r["kind"] == kind and r["step"] < step]
    regular = range(0, step, every)
    count, wanted = len(regular), iter(regular)
    if kind == "eval":
      count, wanted = due.evaluations(config, every, step)
    # Lengths first: a damaged file may ask for any number of steps.
    if len(found) != count or found != [*wanted]:
      wrong.append(f"{len(found)} of kind {kind!r} in place of {count}")
  if not wrong:
    return []
  return [
    f"{METRICS} lacks rows of steps before {step}, or has some twice:"
    f" {', '.join(wrong)}"
  ]


class MetricsFile:
  """Appends rows to a metrics.jsonl, one flushed line each."""

  def __init__(self, path: Path, keep: Callable[[Row], bool], run_id: str = ""):
    """Opens the file after dropping rows that are not whole or not kept.

    Args:
      path: created where missing; another run's is set aside.
      keep: which of the rows already there stay; a resumed run drops what
        lies past its checkpoint.
      run_id: whose file it is; the first row says so.
    """
    rows, self.problems = read_rows(path, run_id)
    kept = [row for row in rows if keep(row)]
    self.rows = kept
    self._path = path
    self._run_id = run_id
    self._is_empty = True
    if len(kept) < len(rows) or self.problems:
      if not rows and path.stat().st_size:
        aside = set_aside(path)
        self.problems.append(f"{path.name} was moved to {aside.name}")
      write_text(path, "".join(map(self._line, kept)))
    self._is_empty = not kept
    self._file = path.open("a")

  def append(self, row: Row) -> None:
    """Writes one row; non-finite numbers become null."""
    with faults.naming(self._path):
      self._file.write(self._line(row))
      self._file.flush()

  def _line(self, row: Row) -> str:
    """A row as text; the file's first one names the run."""
    if self._is_empty and self._run_id:
      row = {**row, "run_id": self._run_id}
    self._is_empty = False
    return json.dumps(finite(row), allow_nan=False) + "\n"

  def sync(self) -> None:
    """Makes what was appended durable: called before a checkpoint is."""
    with faults.naming(self._path):
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    with faults.naming(self._path):
      self._file.close()
