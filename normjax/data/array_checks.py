"""Whether arrays of inputs and targets can be trained on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from normjax import errors

_CHUNK_BYTES = 64 << 20
_CHANNELS = 4
_LARGEST = float(np.finfo(np.float32).max)  # Batches are float32.
_NUM_LOOKED_AT = 4096


class Pair(NamedTuple):
  """The inputs and targets of a split.

  Attributes:
    inputs: (n, d), or (n, y, x, c).
    targets: (n,) integers, or (n, d) floats.
    names: what the config calls the two.
    kind: "classes" or "values".
    reads: "features" or "images".
  """

  inputs: np.ndarray
  targets: np.ndarray
  names: tuple[str, str]
  kind: str
  reads: str

  @classmethod
  def of(
    cls, both: Sequence[np.ndarray], names: Sequence[str], kind: str
  ) -> "Pair":
    """The two arrays in the shapes above.

    Args:
      both: inputs and targets, as stored.
      names: what the config calls them.
      kind: of the targets; empty goes by their type.

    Raises:
      DataError: they are of unequal length, or have other shapes or types.
    """
    inputs, targets = both
    if len(inputs) != len(targets):
      raise errors.DataError(
        f"{names[0]} has {len(inputs)} rows, {names[1]} has {len(targets)};"
        " needed: one of each per example."
      )
    inputs = _inputs(inputs, names[0])
    whole = targets.dtype.kind in "biu"
    if targets.ndim == 2 and targets.shape[1] == 1:
      targets = targets[:, 0]  # A column, as Keras stores labels.
    one_hot = not kind and _is_one_hot(targets)
    kind = kind or ("classes" if whole or one_hot else "values")
    if kind == "classes" and not (whole and targets.ndim == 1):
      raise errors.DataError(
        f"{names[1]} is {targets.dtype} of shape {targets.shape}; classes are"
        " integers of shape (n,). Of one-hot rows take argmax(-1); to predict"
        " numbers, set data.targets_are='values'."
      )
    if kind == "values":
      targets = targets[:, None] if targets.ndim == 1 else targets
      if targets.ndim != 2:
        raise errors.DataError(
          f"{names[1]} has shape {targets.shape}; values have shape (n,) or"
          " (n, d)."
        )
    reads = "images" if inputs.ndim == 4 else "features"
    return cls(inputs, targets, (names[0], names[1]), kind, reads)


def _is_one_hot(targets: np.ndarray) -> bool:
  """Whether rows of floats look like classes that were encoded."""
  if targets.ndim != 2:
    return False
  rows = targets[:_NUM_LOOKED_AT]
  return bool(np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all())


def _inputs(inputs: np.ndarray, name: str) -> np.ndarray:
  if 0 in inputs.shape:
    raise errors.DataError(
      f"{name} has shape {inputs.shape}, and so no numbers; needed: (n, d),"
      " (n, y, x) or (n, y, x, c), none of them 0."
    )
  if inputs.ndim == 3:
    return inputs[..., None]
  if inputs.ndim == 4 and inputs.shape[-1] > _CHANNELS >= inputs.shape[1]:
    raise errors.DataError(
      f"{name} has shape {inputs.shape}; images have their channels last:"
      " np.moveaxis(x, 1, -1)."
    )
  if inputs.ndim not in (2, 4):
    raise errors.DataError(
      f"{name} has shape {inputs.shape}; features have shape (n, d), images"
      " (n, y, x) or (n, y, x, c)."
    )
  return inputs


def check_alike(pairs: Mapping[str, Pair]) -> None:
  """Raises DataError where two splits have other shapes or kinds."""
  first, *others = pairs.values()
  for other in others:
    if first.kind != other.kind:
      raise errors.DataError(
        f"{other.names[1]} reads as {other.kind}, {first.names[1]} as"
        f" {first.kind}; needed: the same type."
      )
    for index, (mine, theirs) in enumerate(
      ((first.inputs, other.inputs), (first.targets, other.targets))
    ):
      if mine.shape[1:] != theirs.shape[1:]:
        raise errors.DataError(
          f"{other.names[index]} has rows of shape {theirs.shape[1:]},"
          f" {first.names[index]} of {mine.shape[1:]}; needed: the same."
        )


def bad_rows(pair: Pair, num_classes: int) -> list[tuple[int, str]]:
  """(row, why) of each that cannot be trained on.

  Args:
    pair: of one split; read in pieces.
    num_classes: labels are below this; 0 allows any that is not negative.
  """
  found: dict[int, str] = {}
  for array, what in ((pair.inputs, "inputs"), (pair.targets, "targets")):
    if array.dtype.kind != "f":
      continue
    for start, piece in _pieces(array):
      finite = np.isfinite(piece)
      if array.itemsize > 4:  # What float32 cannot hold is infinite in a batch.
        finite &= np.abs(piece) <= _LARGEST
      for row in np.flatnonzero(~finite.reshape(len(piece), -1).all(axis=1)):
        found.setdefault(
          start + int(row), f"{what} that are not finite in float32"
        )
  if pair.kind == "classes":
    labels = np.asarray(pair.targets).astype(np.int64)
    wrong = (labels < 0) | ((labels >= num_classes) & (num_classes > 0))
    top = f" to {num_classes - 1}" if num_classes else " or more"
    for row in np.flatnonzero(wrong):
      found.setdefault(int(row), f"label {labels[row]}; allowed: 0{top}")
  return sorted(found.items())


def _pieces(array: np.ndarray) -> Any:
  """(first row, rows) of an array that may not fit in memory."""
  row_bytes = max(array.itemsize * int(np.prod(array.shape[1:])), 1)
  step = max(_CHUNK_BYTES // row_bytes, 1)
  for start in range(0, len(array), step):
    yield start, array[start : start + step]


def moments(rows: Any, per_column: bool) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of rows that may not fit in memory, in float64.

  Args:
    rows: (n, …), by slices.
    per_column: of each column; else of all numbers together.
  """
  axes = 0 if per_column else None
  count, total = 0, 0.0
  for _, piece in _pieces(rows):
    count += len(piece) if per_column else piece.size
    total = total + piece.sum(axes, dtype=np.float64)
  mean = np.asarray(total / count)
  squares = 0.0
  for _, piece in _pieces(rows):
    squares = squares + np.square(piece - mean).sum(axes)
  return mean, np.sqrt(squares / count)
