"""Which domain each row of one's own arrays is from."""

from collections.abc import Mapping

import numpy as np

from normjax import errors
from normjax.data import array_checks, array_files, splits


def read(
  opened: array_files.Opened,
  pairs: Mapping[str, array_checks.Pair],
  asked: Mapping[str, str],
) -> dict[str, np.ndarray] | None:
  """The ids of each split that is given, (n,); None where none are asked for.

  Args:
    opened: the user's files.
    pairs: inputs and targets of each split that is given.
    asked: the name of its ids' array by split; "" where there is none.

  Raises:
    UserError: ids of one split and not of another.
    DataError: no such array, or no integers from 0, one per row.
  """
  options = {
    split: f"{'' if split == splits.TRAIN else f'{split}_'}domains"
    for split in asked
  }
  if not any(asked.values()):
    return None
  found = {}
  for split, name in asked.items():
    option = options[split]
    if bool(name) != (split in pairs):
      needed = "needed: a name" if split in pairs else "allowed: ''"
      raise errors.UserError(
        f"data 'arrays': {option}={name!r}, and the {split} split is"
        f" {'given' if split in pairs else 'drawn from the rows of inputs'};"
        f" {needed}."
      )
    if name:
      found[split] = _ids(opened, option, name, len(pairs[split].inputs))
  return found


def _ids(
  opened: array_files.Opened, option: str, name: str, count: int
) -> np.ndarray:
  ids = opened.read(option, name)
  whole = np.issubdtype(ids.dtype, np.integer)
  if ids.shape != (count,) or not whole or (count and ids.min() < 0):
    least = f", the least {ids.min()}" if whole and ids.size else ""
    raise errors.DataError(
      f"{option}={name!r} of {opened.path} is {ids.dtype} of shape"
      f" {ids.shape}{least}; needed: integers from 0, one per row, ({count},)."
    )
  return np.asarray(ids)
