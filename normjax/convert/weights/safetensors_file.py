"""Tensors of a safetensors file, by the library."""

import functools
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from normjax import errors
from normjax.convert.weights.base import Tensor

# The file's names of dtypes; quantized kinds of newer files are not read.
_DTYPES = {
  "F64": "float64",
  "F32": "float32",
  "F16": "float16",
  "BF16": "bfloat16",
  "I64": "int64",
  "I32": "int32",
  "I16": "int16",
  "I8": "int8",
  "U8": "uint8",
  "BOOL": "bool",
}


def tensors(file: Path) -> dict[str, Tensor]:
  """All tensors of a file, by name; only its head is read.

  Raises:
    DataError: it is not to be read, is cut off, or holds a kind of number that
      is not read here.
  """
  found = {}
  try:
    with safe_open(file, framework="numpy") as opened:
      for name in opened.keys():  # noqa: SIM118 It is no mapping.
        head = opened.get_slice(name)
        kind = head.get_dtype()
        if kind not in _DTYPES:
          raise errors.DataError(
            f"{file}: tensor {name!r} is of kind {kind}; read here:"
            f" {', '.join(_DTYPES)}."
          )
        read = functools.partial(_read, file, name)
        found[name] = Tensor(file, tuple(head.get_shape()), _DTYPES[kind], read)
  except (SafetensorError, OSError) as error:
    raise _damaged(file, error) from error
  return found


def _read(file: Path, name: str) -> np.ndarray:
  # Opened anew: pages of an open file stay in the process's memory.
  try:
    with safe_open(file, framework="numpy") as opened:
      return opened.get_tensor(name)
  except (SafetensorError, OSError) as error:
    raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> errors.DataError:
  why = getattr(error, "strerror", None) or error
  return errors.DataError(f"{file} is no whole safetensors file: {why}.")
