"""Whether the data of a run is what it was trained on."""

from collections.abc import Mapping
from typing import Any

from normjax import build, configure, errors
from normjax.record.directory import RunDirectory

# Of a user's own files; what is shipped and what TFDS prepares has a version.
_KEY = "fingerprint"
_PARTS = ("sizes", "documents", "bytes", "classes", "train", "validation")


def problem(config: configure.ConfigDict, files: RunDirectory) -> str:
  """What a run was trained on, where that is not its data now; else empty.

  As in "other data of data.name='arrays': …": data that is elsewhere, or that
  cannot be read, is not called other data.

  Args:
    config: of the run.
    files: of the run; its `run.json` has the fingerprint of the data.
  """
  was = began_with(files)
  if _KEY not in was:
    return ""
  name = f"data of data.name={config['data']['name']!r}"
  try:
    now = build.dataset(config).provenance
  except errors.UserError as error:
    return f"{name} that cannot be read now: {str(error).rstrip('.')}"
  changed = difference(was, now)
  return f"other {name}: {changed}" if changed else ""


def began_with(files: RunDirectory) -> Mapping[str, Any]:
  """What a run's `run.json` says of its data; empty where it says nothing."""
  told = (files.read_run().value or {}).get("provenance", {}).get("data")
  return told if isinstance(told, Mapping) else {}


def difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """In what two provenances of one data set differ; empty where in nothing."""
  said = []
  if _KEY in was and was[_KEY] != now.get(_KEY):
    said.append(
      f"its {_KEY} was {was[_KEY][:12]}, is {str(now.get(_KEY))[:12]}"
    )
  # Of sets that have a version, how they are cut may differ.
  for key in _PARTS:
    if key in was and was[key] != now.get(key):
      said.append(f"{key}: {was[key]}, now {now.get(key)}")
  return "; ".join(said)
