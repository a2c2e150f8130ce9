"""The lines between an executor and its workers, both ways, checked.

A request is a list of lanes that share a program; a worker answers about each
(see `executor` for the order). One JSON object in one line:

    {"protocol": 2, "lanes": [{"run_id": …, "config": …, "directory": …,
      "most": …}, …]}

    {"event": "Ready", "slot": 0, "protocol": 2}
    {"event": "Began", "slot": 0, "run_id": …}
    {"event": "Finished", "slot": 0, "run_id": …, "wall_s": …}
    {"event": "Failed", "slot": 0, "run_id": …, "message": …, "cause": "disk"}
    {"event": "Interrupted", "slot": 0, "run_id": …}

Both sides come from one package; they differ where its files change below a
sweep that runs. The version says so before anything else goes wrong.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normjax.sweep import executor
from normjax.sweep.executor import Lane

PROTOCOL = 2
_ANSWERS = {
  answer.__name__: answer
  for answer in (
    executor.Ready,
    executor.Began,
    executor.Finished,
    executor.Failed,
    executor.Interrupted,
  )
}
Answer = (
  executor.Ready
  | executor.Began
  | executor.Finished
  | executor.Failed
  | executor.Interrupted
)
_SHOWN_CHARS = 80


class ProtocolError(ValueError):
  """A line that is none of the protocol; the message is one line."""


def write_request(lanes: Sequence[Lane]) -> str:
  """The line that asks a worker to run lanes."""
  rows = [{**vars(lane), "directory": str(lane.directory)} for lane in lanes]
  return json.dumps({"protocol": PROTOCOL, "lanes": rows}) + "\n"


def read_request(line: str) -> list[Lane]:
  """The lanes of a request.

  Raises:
    ProtocolError: it is none, or of another version.
  """
  row = _row("request", line)
  _check_version("request", row)
  lanes = row.get("lanes")
  if not isinstance(lanes, list) or not lanes:
    raise _error("request", line, "'lanes' is no list of lanes")
  kinds = {"run_id": str, "config": dict, "directory": str, "most": int}
  for lane in lanes:
    if not isinstance(lane, dict):
      raise _error("request", line, f"the lane {lane!r} is no object")
    _check_fields("request", line, lane, kinds)
  return [
    Lane(**{**lane, "directory": Path(lane["directory"])}) for lane in lanes
  ]


def write_answer(answer: Answer) -> str:
  """The line that tells what happened in a worker."""
  row = {"event": type(answer).__name__, **dataclasses.asdict(answer)}
  if isinstance(answer, executor.Ready):
    row["protocol"] = PROTOCOL
  return json.dumps(row) + "\n"


def read_answer(line: str, slot: int) -> Answer:
  """What happened in the worker of a slot.

  Raises:
    ProtocolError: it is no answer, of another version, or of another slot.
  """
  row = _row("answer", line)
  name = row.pop("event", None)
  answer = _ANSWERS.get(name) if isinstance(name, str) else None
  if answer is None:
    raise _error("answer", line, f"'event' is {name!r}")
  if answer is executor.Ready:
    _check_version("answer", row)
    del row["protocol"]
  kinds = {field.name: field.type for field in dataclasses.fields(answer)}
  _check_fields("answer", line, row, kinds)
  if row["slot"] != slot:
    raise _error("answer", line, f"'slot' is {row['slot']}, not {slot}")
  if "cause" in row:
    row["cause"] = executor.Cause(row["cause"])
  return answer(**row)


def _row(what: str, line: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise _error(what, line, "it is no JSON") from error
  if not isinstance(row, dict):
    raise _error(what, line, "it is no object")
  return row


def _check_version(what: str, row: dict[str, Any]) -> None:
  version = row.get("protocol")
  if version != PROTOCOL:
    raise ProtocolError(
      f"the {what} has version {version!r} of the workers' protocol, not"
      f" {PROTOCOL}: the package has changed since the sweep was started;"
      " start it again"
    )


def _check_fields(
  what: str, line: str, row: dict[str, Any], kinds: dict[str, Any]
) -> None:
  """Raises ProtocolError unless the row has these fields, of these types."""
  if row.keys() != kinds.keys():
    raise _error(
      what, line, f"it has {sorted(row)}, but must have {sorted(kinds)}"
    )
  for key, kind in kinds.items():
    value = row[key]
    if kind is executor.Cause:
      fits = value in list(executor.Cause)
    else:
      fits = type(value) in ((int, float) if kind is float else (kind,))
    if not fits:
      raise _error(what, line, f"{key!r} is {value!r}")


def _error(what: str, line: str, why: str) -> ProtocolError:
  text = line.rstrip("\n")
  if len(text) > _SHOWN_CHARS:
    text = text[:_SHOWN_CHARS] + " ..."
  return ProtocolError(f"no {what} of the workers' protocol: {why}: {text!r}")
