"""A folder as transformers and timm lay it out: config.json and weights."""

import json
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.convert.weights import safetensors_file
from normjax.convert.weights.base import Checkpoint, Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def open_checkpoint(path: str | Path) -> Checkpoint:
  """What a folder holds; no weight is read.

  Args:
    path: of the folder.

  Raises:
    DataError: no such folder, no weights in it, or files that are damaged or
      not complete.
  """
  where = Path(path)
  if not where.is_dir():
    raise errors.DataError(
      f"no folder {str(where)!r}; needed: one with {CONFIG} and {WEIGHTS}."
    )
  config = where / CONFIG
  return Checkpoint(
    where,
    _tensors(where),
    read_json(config) if config.is_file() else {},
    config,
  )


def _tensors(folder: Path) -> dict[str, Tensor]:
  if (folder / WEIGHTS).is_file():
    return safetensors_file.tensors(folder / WEIGHTS)
  if (folder / _INDEX).is_file():
    return _sharded(folder / _INDEX)
  raise errors.DataError(
    f"{folder} holds no weights; looked for: {WEIGHTS}, {_INDEX}."
  )


def _sharded(index: Path) -> dict[str, Tensor]:
  """Tensors of all files that an index names."""
  places = read_json(index).get("weight_map")
  if not isinstance(places, dict) or not places:
    raise errors.DataError(f"{index} lacks 'weight_map', tensor to file.")
  files = sorted({*map(str, places.values())})
  for name in files:
    if name != Path(name).name or name in ("", ".", ".."):
      raise errors.DataError(
        f"{index} names the file {name!r}; allowed: a name in its own folder."
      )
    if not (index.parent / name).is_file():
      raise errors.DataError(
        f"{index} names {name!r}, which is not there: a part of the weights is"
        " missing."
      )
  parts = {
    name: safetensors_file.tensors(index.parent / name) for name in files
  }
  for tensor, name in places.items():
    if tensor not in parts[name]:
      raise errors.DataError(f"{index}: tensor {tensor!r} is not in {name!r}.")
  return {tensor: parts[name][tensor] for tensor, name in places.items()}


def read_json(file: Path) -> dict[str, Any]:
  """The block of keys and values that a file is.

  Raises:
    DataError: it is not to be read, or holds something else.
  """
  try:
    found = json.loads(file.read_text("utf-8"))
  except OSError as error:
    raise errors.DataError(f"{file}: {error.strerror}.") from error
  except (ValueError, RecursionError) as error:
    raise errors.DataError(f"{file} is no JSON: {error}.") from error
  if not isinstance(found, dict):
    raise errors.DataError(
      f"{file} holds a {type(found).__name__}; needed: a block of keys."
    )
  return found
