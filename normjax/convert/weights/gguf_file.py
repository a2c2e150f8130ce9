"""Tensors of a GGUF file, by the package gguf (MIT), which is an extra."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from normjax import errors
from normjax.convert.weights import gguf_names
from normjax.convert.weights.base import Tensor

# Kinds of numbers that are read; the last three are quantized, in blocks.
KINDS = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1")


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
  """The tensors of a file, by transformers' names, and its config.json.

  Quantized numbers become the float32 that they stand for.

  Raises:
    UserError: the package gguf is not installed.
    DataError: it is not to be read, holds another kind of numbers, or a model
      of another architecture.
  """
  gguf = _library()
  with _readable(file):
    opened = _reader(gguf)(file)
    settings = {
      name: field.contents()
      for name, field in opened.fields.items()
      # The tokenizer's lists are long and slow to read.
      if not name.startswith("tokenizer.")
    }
    if opened.byte_order != "I":
      raise errors.DataError(
        f"{file} has its numbers in the other byte order; needed: little"
        " endian."
      )
    names = gguf_names.Names(file, settings)
    found = {}
    for held in opened.tensors:
      kind = held.tensor_type.name
      if kind not in KINDS:
        raise errors.DataError(
          f"{file}: tensor {held.name!r} is of kind {kind}; read here:"
          f" {', '.join(KINDS)}."
        )
      shape = tuple(int(size) for size in reversed(held.shape))
      heads = names.interleaved_heads(held.name)
      found[names.of(held.name)] = Tensor(
        file,
        shape,
        "float32",
        functools.partial(
          _numbers, file, kind, held.data_offset, held.n_bytes, shape, heads
        ),
      )
  return found, names.config(found)


def _numbers(
  file: Path,
  kind: str,
  offset: int,
  size_bytes: int,
  shape: tuple[int, ...],
  heads: int,
) -> np.ndarray:
  gguf = _library()
  with _readable(file):
    held = np.fromfile(file, np.uint8, size_bytes, offset=offset)
    rows = held.reshape(*shape[:-1], -1)
    numbers = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
    numbers = numbers.reshape(shape)
  return gguf_names.halves(numbers, heads) if heads else numbers


def _reader(gguf: Any) -> Any:
  """The package's reader, which takes numbers beyond the file's end for none.

  A list of 2^60 of those would be gone through to its end.
  """

  class Reader(gguf.GGUFReader):
    def _get(
      self, offset: int, dtype: Any, count: int = 1, *more: Any, **said: Any
    ) -> Any:
      # In Python's own numbers, which do not wrap.
      size_bytes = int(count) * np.dtype(dtype).itemsize
      if int(offset) + size_bytes > self.data.nbytes:
        raise ValueError("it says more than it holds")
      return super()._get(offset, dtype, count, *more, **said)

  return Reader


def _library() -> Any:
  try:
    import gguf
  except ImportError as error:
    raise errors.UserError(
      "reading GGUF needs the package gguf: pip install 'normjax[gguf]'."
    ) from error
  return gguf


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
  """What a damaged file makes the package raise, as bad input."""
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:
    why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    raise errors.DataError(f"{file} is no whole GGUF file: {why}.") from error
