"""Whose results a place holds: those of another are not written over."""

import json
from collections.abc import Mapping
from typing import Any

from normjax import configure, errors
from normjax.record.directory import RunDirectory

_MOST_NAMED = 6
_ABSENT = "absent"


def check(
  directory: RunDirectory, config: configure.ConfigDict | dict[str, Any]
) -> None:
  """Keeps a run out of the directory of another one, over or not.

  Args:
    directory: of the run; it need not be there.
    config: of the run.

  Raises:
    RunError: its `run.json` is another run's; says in what the two differ.
  """
  if directory.whose == directory.run_id:
    return
  other = RunDirectory.at(directory.path)
  there = other.read_run().value or {}
  said = differences(
    configure.decisive(there.get("config", {})), configure.decisive(config)
  )
  told = f": {named(said)}" if said else ""
  raise errors.RunError(
    f"{directory.path} holds another run, {other.run_id}"
    f" ({other.read().state}), than this one, {directory.run_id}{told}. Nothing"
    " of it was changed; give another folder (--out), or move that one away."
  )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """`key was …, is …` of every leaf that differs, sorted by key."""
  was, now = dict(configure.leaves(old)), dict(configure.leaves(new))
  return [
    f"{key} was {_show(was, key)}, is {_show(now, key)}"
    for key in sorted(was.keys() | now.keys())
    if _show(was, key) != _show(now, key)
  ]


def named(said: list[str]) -> str:
  """The first differences, and how many more there are."""
  return errors.few(said, _MOST_NAMED, "; ")


def _show(leaves: Mapping[str, Any], key: str) -> str:
  return json.dumps(leaves[key]) if key in leaves else _ABSENT
