"""Where a folder of released weights keeps them, and its config.json.

In a folder, as transformers and timm lay it out, safetensors come before
PyTorch's files, and whole files before parts.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.convert.weights import gguf_file, safetensors_file, torch_file
from normjax.convert.weights.base import Checkpoint, Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_GGUF = ".gguf"
_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
  ".safetensors": safetensors_file.tensors,
  ".bin": torch_file.tensors,
  ".pth": torch_file.tensors,
  ".pt": torch_file.tensors,
}
_INDEX = ".index.json"
_LOOKED_FOR = (
  WEIGHTS,
  f"{WEIGHTS}{_INDEX}",
  "pytorch_model.bin",
  f"pytorch_model.bin{_INDEX}",
)


def open_checkpoint(path: str | Path) -> Checkpoint:
  """What a folder, or a single file, holds; no weight is read.

  Args:
    path: a folder with config.json and weights; or a .safetensors, .bin, .pth,
      .pt or .gguf file, beside which a config.json may be. A GGUF file says
      itself what it is.

  Raises:
    DataError: nothing of that kind is there; files that are damaged or not
      complete; a file that names one outside of its folder.
  """
  where = existing(path)
  with _accessible(where):
    weights = _weights(where) if where.is_dir() else where
    if weights.suffix == _GGUF:
      tensors, config = gguf_file.read(weights)
      return Checkpoint(where, tensors, config, weights)
    config_file = weights.parent / CONFIG
    config = read_json(config_file) if config_file.is_file() else {}
    return Checkpoint(where, _tensors(weights), config, config_file)


def existing(path: str | Path) -> Path:
  """The path of a folder or a file that is there; "~" is one's own folder.

  Raises:
    DataError: nothing is there.
  """
  where = home(path)
  with _accessible(where):
    if not where.exists():
      raise errors.DataError(
        f"no folder {str(where)!r}; needed: one with {CONFIG} and {WEIGHTS};"
        " nothing is downloaded."
      )
  return where


def home(path: str | Path) -> Path:
  """The path, in one's own folder where it begins with "~".

  Raises:
    DataError: it is no path, or begins with somebody who is not known.
  """
  if not isinstance(path, str | Path) or not str(path):
    raise errors.DataError(f"folder={path!r}; needed: the path of a folder.")
  try:
    return Path(path).expanduser()
  except RuntimeError as error:
    raise errors.DataError(f"no folder {str(path)!r}: {error}") from error


@contextlib.contextmanager
def _accessible(path: str | Path) -> Iterator[None]:
  """What a closed folder or too long a name raises, as bad input."""
  try:
    yield
  except OSError as error:
    raise errors.DataError(
      f"{error.filename or path}: {error.strerror}."
    ) from error


def _weights(folder: Path) -> Path:
  """The file with weights, or that which names their parts."""
  for name in _LOOKED_FOR:
    if (folder / name).is_file():
      return folder / name
  found = sorted(folder.glob(f"*{_GGUF}"))
  if len(found) == 1:
    return found[0]
  if found:
    raise errors.DataError(
      f"{folder} holds several models, {errors.few([f.name for f in found])};"
      " name one of the files."
    )
  raise errors.DataError(
    f"{folder} holds no weights; looked for: {', '.join(_LOOKED_FOR)},"
    f" one *{_GGUF}."
  )


def _tensors(file: Path) -> dict[str, Tensor]:
  if file.name.endswith(_INDEX):
    return _sharded(file)
  return _whole(file)


def _whole(file: Path) -> dict[str, Tensor]:
  if file.suffix not in _READERS:
    raise errors.DataError(
      f"{file} is no file of weights; allowed: {', '.join((*_READERS, _GGUF))}."
    )
  return _READERS[file.suffix](file)


def _sharded(index: Path) -> dict[str, Tensor]:
  """Tensors of all files that an index names."""
  places = read_json(index).get("weight_map")
  if not isinstance(places, dict) or not places:
    raise errors.DataError(f"{index} lacks 'weight_map', tensor to file.")
  parts: dict[Any, dict[str, Tensor]] = {}
  for tensor, name in places.items():
    # Of an index that comes with a download nothing else is opened.
    if not isinstance(name, str) or name != Path(name).name:
      raise errors.DataError(
        f"{index}: tensor {tensor!r} is in {name!r}; allowed: the name of a"
        " file in its own folder."
      )
    file = index.parent / name
    if name not in parts:
      if not file.is_file():
        raise errors.DataError(
          f"{index} names {name!r}, which is not there: a part of the weights"
          " is missing."
        )
      parts[name] = _whole(file)
    if tensor not in parts[name]:
      raise errors.DataError(
        f"{file} lacks {tensor!r}, which {index} puts there."
      )
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
