"""Committed results of a table.

In `experiments/<paper>/results/<name>_<scale>.json`: small, and stable under
git, with a line per cell and statement and numbers rounded to the digits that
float32 has. What was expected is in it by its digest, so that a result of other
statements, or of another protocol, is told from a current one.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.papers import places, toml
from normjax.papers.kept import (
  VERDICTS,
  CellResult,
  Made,
  Results,
  StatementResult,
  verdict_of,
)
from normjax.papers.table import SCALES
from normjax.record import files

SCHEMA = 1
_DIGITS = 7  # Of float32.
_MOST_EXACT = 2**53  # Of whole numbers, that a float has.
_SHORT_DIGITS = 3  # Of p-values and times.


def file_name(name: str, scale: str) -> str:
  """Of a table at a scale."""
  return f"{name}_{scale}.json"


def path(paper: str, name: str, scale: str) -> Path | None:
  """Where results are read: a user's own first; None where there are none."""
  return places.find(paper, "results", file_name(name, scale))


def find(paper: str, name: str, scale: str) -> Results | None:
  """The results of a table at a scale; None where there are none.

  Raises:
    RunError: the file is not right, or of another table.
  """
  file = path(paper, name, scale)
  if file is None:
    return None
  found = read(file)
  for key, needed in (("paper", paper), ("name", name), ("scale", scale)):
    if getattr(found, key) != needed:
      raise errors.RunError(
        f"{file}: {key}={getattr(found, key)!r}; where it lies it is"
        f" {needed!r}. It was copied from another table's."
      )
  return found


def write(file: Path, results: Results) -> None:
  """Writes a file, at once or not at all."""
  files.write_text(file, dumps(results))


def dumps(results: Results) -> str:
  """The file's text: a line per cell and statement."""
  said = dataclasses.asdict(results)
  said["made"] |= {
    key: rounded(said["made"][key], _SHORT_DIGITS)
    for key in ("cpu_s", "wall_s")
  }
  for each in said["expected"]:
    each["p_holm"] = rounded(each["p_holm"], _SHORT_DIGITS)
  said = files.finite(rounded({"schema": SCHEMA, **said}))
  lines = []
  for key, value in said.items():
    if isinstance(value, list) and value:
      inner = ",\n".join(f"    {_line(item)}" for item in value)
      lines.append(f"  {_line(key)}: [\n{inner}\n  ]")
    else:
      lines.append(f"  {_line(key)}: {_line(value)}")
  return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False, allow_nan=False)


def rounded(value: Any, digits: int = _DIGITS) -> Any:
  """Floats of a tree at so many significant digits; whole ones as integers."""
  if isinstance(value, Mapping):
    return {str(key): rounded(item, digits) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [rounded(item, digits) for item in value]
  if not isinstance(value, float) or not math.isfinite(value):
    return value
  if value.is_integer() and abs(value) <= _MOST_EXACT:
    return int(value)  # A count, which an exact statement may be about.
  return float(f"{value:.{digits}g}")


def read(file: Path) -> Results:
  """Reads a file.

  Raises:
    RunError: it is not what `write` writes; the message names the key.
  """
  said = files.read_json(file)
  if said is None:
    raise errors.RunError(f"{file} is not there.")
  try:
    return _parsed(str(file), said)
  except errors.RunError:
    raise
  except errors.UserError as error:
    raise errors.RunError(
      f"{error} `normjax reproduce NAME --save` writes it anew."
    ) from error


def _parsed(where: str, said: Any) -> Results:
  names = [field.name for field in dataclasses.fields(Results)]
  toml.check_keys(where, said, ("schema", *names), ())
  if said["schema"] != SCHEMA:
    raise errors.UserError(
      f"{where}: schema={said['schema']!r}; allowed: {SCHEMA}."
    )
  if type(said["protocol"]) is not int:
    raise errors.UserError(
      f"{where}: protocol={said['protocol']!r}; allowed: a whole number."
    )
  found = Results(
    name=toml.text(where, said, "name"),
    paper=toml.text(where, said, "paper"),
    scale=toml.word(where, said, "scale", SCALES),
    statements=toml.text(where, said, "statements"),
    plans=_texts(where, said, "plans"),
    verdict=toml.word(where, said, "verdict", VERDICTS),
    cells=[
      _cell(f"{where}, cell {index}", each)
      for index, each in enumerate(toml.records(where, said, "cells"), 1)
    ],
    expected=[
      _statement(f"{where}, statement {index}", each)
      for index, each in enumerate(toml.records(where, said, "expected"), 1)
    ],
    made=_made(f"{where}, made", said["made"]),
    protocol=said["protocol"],
  )
  needed = verdict_of([each.verdict for each in found.expected])
  if found.verdict != needed:
    raise errors.UserError(
      f"{where}: verdict={found.verdict!r}; of its statements it is {needed!r}."
    )
  return found


def _fields(kind: type, where: str, said: Any) -> None:
  toml.check_keys(where, said, [f.name for f in dataclasses.fields(kind)], ())


def _cell(where: str, said: Any) -> CellResult:
  _fields(CellResult, where, said)
  texts = {
    key: toml.text(where, said, key, empty=key in ("column", "metric"))
    for key in ("row", "column", "part", "method", "metric")
  }
  values = said["values"]
  if not isinstance(values, Mapping):
    raise errors.UserError(f"{where}: values={values!r}; allowed: a mapping.")
  known = {
    _seed(where, key): toml.number(where, values, key, -math.inf)
    for key in values
  }
  diverged = [
    _seed(where, each) for each in toml.records(where, said, "diverged")
  ]
  planned = _whole(where, said, "planned")
  # Of cross-validated data values are of folds, and fewer than runs.
  most = planned - len(diverged)
  if len({*diverged}) < len(diverged) or len(values) > most or most < 0:
    raise errors.UserError(
      f"{where}: {len(values)} values and {len(diverged)} diverged of"
      f" planned={planned} runs; allowed: each run once."
    )
  return CellResult(
    **texts,
    planned=planned,
    values=known,
    diverged=tuple(diverged),
    resolution=toml.number(where, said, "resolution", 0.0),
    censored=_one_of(where, said, "censored", (True, False)),
    tuned=_one_of(where, said, "tuned", (True, False, None)),
  )


def _one_of(
  where: str, said: toml.Record, key: str, allowed: Sequence[Any]
) -> Any:
  if not any(said[key] is each for each in allowed):
    raise errors.UserError(
      f"{where}: {key}={said[key]!r}; allowed: {json.dumps(allowed)[1:-1]}."
    )
  return said[key]


def _statement(where: str, said: Any) -> StatementResult:
  _fields(StatementResult, where, said)
  return StatementResult(
    toml.text(where, said, "claim"),
    toml.word(where, said, "verdict", VERDICTS),
    _whole(where, said, "n"),
    *(_optional(where, said, key) for key in ("mean", "low", "high", "p_holm")),
    toml.text(where, said, "reason", empty=True),
  )


def _made(where: str, said: Any) -> Made:
  _fields(Made, where, said)
  return Made(
    date=toml.text(where, said, "date"),
    commit=toml.text(where, said, "commit", empty=True),
    versions=_texts(where, said, "versions"),
    device=toml.text(where, said, "device", empty=True),
    cores=_whole(where, said, "cores"),
    cpu_s=_optional(where, said, "cpu_s"),
    wall_s=_optional(where, said, "wall_s"),
    runs=_whole(where, said, "runs"),
  )


def _texts(where: str, said: toml.Record, key: str) -> dict[str, str]:
  value = said[key]
  if not isinstance(value, Mapping):
    raise errors.UserError(f"{where}: {key}={value!r}; allowed: a mapping.")
  return {name: toml.text(f"{where}, {key}", value, name) for name in value}


def _optional(where: str, said: toml.Record, key: str) -> float | None:
  return None if said[key] is None else toml.number(where, said, key, -math.inf)


def _whole(where: str, said: toml.Record, key: str) -> int:
  if type(said[key]) is not int or said[key] < 0:
    raise errors.UserError(
      f"{where}: {key}={said[key]!r}; allowed: a whole number >= 0."
    )
  return said[key]


def _seed(where: str, key: Any) -> int:
  """A seed as `write` has it: so that none is there twice."""
  is_seed = type(key) is int or (
    isinstance(key, str) and re.fullmatch(r"0|-?[1-9][0-9]{0,18}", key)
  )
  if not is_seed:
    raise errors.UserError(
      f"{where}: {key!r} is no seed; allowed: a whole number."
    )
  return int(key)
