"""Tensors of a PyTorch file, without torch."""

import functools
import math
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 NumPy learns the name bfloat16.
import numpy as np

from normjax import errors
from normjax.convert.weights import torch_pickle
from normjax.convert.weights.base import Tensor
from normjax.convert.weights.torch_pickle import View

# Before version 1.6, and still an option.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PICKLE = "/data.pkl"
# Where training scripts put the weights among other things.
_INNER = ("state_dict", "model")
# What zipfile makes of what is cut off, spoiled or encrypted.
_DAMAGED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile)
_UNSIGNED = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}


def tensors(file: Path) -> dict[str, Tensor]:
  """All tensors of a file, by name; only its pickle is read, and none is run.

  Raises:
    DataError: it is not to be read, in another format, damaged, holds more than
      tensors, or a tensor that is not within its storage.
  """
  try:
    with file.open("rb") as opened:
      if opened.read(len(_LEGACY)) == _LEGACY:
        raise errors.DataError(
          f"{file} is in PyTorch's format before version 1.6, which is not read"
          " here; torch.save(torch.load(…, weights_only=True), …) writes"
          " today's."
        )
    with zipfile.ZipFile(file) as archive:
      root = _root(file, archive)
      loaded = torch_pickle.load(archive.read(f"{root}{_PICKLE}"), file)
      order = _byte_order(file, archive, root)
      views = _views(file, loaded)
      for name, view in views.items():
        _check(file, name, view)
        _check_storage(file, archive, root, view)
      _check_parts(file, archive)
  except _DAMAGED as error:
    raise _damaged(file, error) from error
  return {
    name: Tensor(
      file,
      view.shape,
      view.storage.dtype,
      functools.partial(
        _read, file, f"{root}/data/{view.storage.key}", view, order
      ),
    )
    for name, view in views.items()
  }


def _root(file: Path, archive: zipfile.ZipFile) -> str:
  """The folder in the archive."""
  names = archive.namelist()
  found = [name for name in names if name.endswith(_PICKLE)]
  if len(found) != 1 or found[0].count("/") != 1:
    raise errors.DataError(f"{file} is a zip file without one data.pkl.")
  root = found[0].removesuffix(_PICKLE)
  if any(name.startswith(f"{root}/code/") for name in names):
    raise errors.DataError(
      f"{file} is a TorchScript program; needed: a state dict, as"
      " torch.save(model.state_dict(), …) writes it."
    )
  for info in archive.infolist():
    # A small file must not become a large one in memory.
    if info.compress_type != zipfile.ZIP_STORED:
      raise errors.DataError(
        f"{file}: {info.filename!r} is compressed, as PyTorch never does it."
      )
  return root


def _byte_order(file: Path, archive: zipfile.ZipFile, root: str) -> str:
  name = f"{root}/byteorder"
  if name not in archive.namelist():
    return "<"  # Files before the record was there.
  said = archive.read(name).decode(errors="replace")
  if said not in ("little", "big"):
    raise errors.DataError(f"{file}: byteorder={said!r}; allowed: little, big.")
  return "<" if said == "little" else ">"


def _views(file: Path, loaded: Any) -> dict[str, View]:
  """The state dict, which may be within one."""
  for key in _INNER:
    if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
      loaded = loaded[key]
  if not isinstance(loaded, dict) or not loaded:
    raise errors.DataError(f"{file} holds no dict of tensors.")
  for name, value in loaded.items():
    if not isinstance(name, str) or not isinstance(value, View):
      raise errors.DataError(
        f"{file}: its entry {name!r} is a {type(value).__name__}; read here are"
        " dicts of tensors, alone or under 'state_dict' or 'model'."
      )
  return loaded


def _check(file: Path, name: str, view: View) -> None:
  """Raises DataError for a tensor that is not within its storage."""
  storage, offset, shape, strides = view
  count = math.prod(shape)
  last = offset + sum(
    (size - 1) * stride for size, stride in zip(shape, strides, strict=False)
  )
  if (
    len(shape) != len(strides)
    or min(0, offset, *shape, *strides) < 0
    or (count and last >= storage.size)
    # Overlapping, a small file would become a large array.
    or count > storage.size
  ):
    raise errors.DataError(
      f"{file}: tensor {name!r} of shape {shape}, strides {strides} and offset"
      f" {offset} is not within its storage of {storage.size} numbers."
    )


def _check_storage(
  file: Path, archive: zipfile.ZipFile, root: str, view: View
) -> None:
  name, storage = f"{root}/data/{view.storage.key}", view.storage
  try:
    info = archive.getinfo(name)
  except KeyError as error:
    raise errors.DataError(f"{file} lacks its part {name!r}.") from error
  needed = storage.size * np.dtype(storage.dtype).itemsize
  if info.file_size != needed:
    raise errors.DataError(
      f"{file}: its part {name!r} has {info.file_size} bytes; by the pickle it"
      f" has {needed}."
    )


def _check_parts(file: Path, archive: zipfile.ZipFile) -> None:
  """Raises DataError where parts overlap: a small file would be large."""
  total = sum(info.file_size for info in archive.infolist())
  if total > (size := file.stat().st_size):
    raise errors.DataError(
      f"{file}: its parts have {total} bytes, and the file has {size}: they"
      " overlap."
    )


def _read(file: Path, part: str, view: View, order: str) -> np.ndarray:
  """A tensor; of the storage only what it covers is kept."""
  dtype = np.dtype(view.storage.dtype)
  try:
    with zipfile.ZipFile(file) as archive:
      # Whole, so that its checksum is looked at.
      content = archive.read(part)
  except _DAMAGED as error:
    raise _damaged(file, error) from error
  whole = np.frombuffer(content, f"{order}{_UNSIGNED[dtype.itemsize]}")
  native = whole.astype(_UNSIGNED[dtype.itemsize], copy=False).view(dtype)
  found = np.lib.stride_tricks.as_strided(
    native[view.offset :],
    view.shape,
    tuple(stride * dtype.itemsize for stride in view.strides),
    writeable=False,
  )
  covers_all = found.size == native.size and found.flags.c_contiguous
  return found if covers_all else found.copy()


def _damaged(file: Path, error: Exception) -> errors.DataError:
  why = getattr(error, "strerror", None) or error
  return errors.DataError(f"{file} is no whole PyTorch file: {why}.")
