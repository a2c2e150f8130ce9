"""Arrays by name from an .npz file, or from a folder of .npy files."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from normjax import errors


class Opened:
  """The arrays behind a path, by name; .npy files are memory-mapped.

  Attributes:
    names: of the arrays that are there.
    root: the folder of `files`.
    files: that were read.
  """

  def __init__(self, path: Path):
    """Opens an .npz file, or looks into a folder."""
    self.path = path
    if path.is_dir():
      self.names = sorted(p.stem for p in path.glob("*.npy"))
      self.root, self.files = path, []
    else:
      self.root, self.files = path.parent, [path.name]
      with _archive(path) as archive:
        self.names = sorted(archive)

  def read(self, option: str, name: str) -> np.ndarray:
    """The array of that name; DataError says what there is instead."""
    if name not in self.names:
      raise errors.DataError(
        f"{option}={name!r}: {self.path} has no such array; it has"
        f" {', '.join(self.names) or 'none'}."
      )
    try:
      if self.path.is_dir():
        self.files.append(f"{name}.npy")
        array = np.load(self.path / f"{name}.npy", mmap_mode="r")
      else:
        with _archive(self.path) as archive:
          array = archive[name]
    # A file that is cut short, or holds Python's objects.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
      raise errors.DataError(
        f"{option}={name!r}: {self.path} cannot be read: {_why(error)}."
      ) from error
    # Of floats beyond 64 bits, no two machines have the same.
    if not array.ndim or array.dtype.kind not in "biuf" or array.itemsize > 8:
      raise errors.DataError(
        f"{option}={name!r} of {self.path} is {array.dtype} of shape"
        f" {array.shape}; needed: numbers of at most 64 bits, one row per"
        " example."
      )
    return array


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
  with path.open("rb") as file:
    try:
      opened = np.load(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
      raise errors.DataError(
        f"path={str(path)!r} cannot be read as .npz: {_why(error)}."
      ) from error
    if not isinstance(opened, np.lib.npyio.NpzFile):
      raise errors.DataError(
        f"path={str(path)!r} is one array; needed: an .npz file, or the folder"
        " that holds the .npy files."
      )
    yield opened


def _why(error: Exception) -> str:
  """What is wrong with a file; NumPy's own words say to unpickle it."""
  said = str(error)
  if "allow_pickle" not in said:
    return said.rstrip(".")
  if "Object arrays" in said:
    return "it holds Python objects; needed: an array of numbers"
  return "it is no file of NumPy's (np.savez, np.save)"
