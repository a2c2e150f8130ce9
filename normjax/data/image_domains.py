"""Which domain each image of a folder is from, by a CSV file."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from normjax import errors


class ImageDomains(NamedTuple):
  """Domains of images.

  Attributes:
    names: of domains, sorted; an id is a place in it.
    ids: of each image, (n,) int32.
  """

  names: list[str]
  ids: np.ndarray


def read(file: Path, images: Sequence[str]) -> ImageDomains:
  """The domains of images; lines of other paths are not read.

  Args:
    file: lines "path,domain"; a first one with just these words is a header.
    images: paths, as in the file.

  Raises:
    DataError: a file that cannot be read, a line of another form, one path
      with two domains, or an image without one.
  """
  domain_of: dict[str, str] = {}
  try:
    with file.open(newline="", encoding="utf-8") as opened:
      for number, row in enumerate(csv.reader(opened), start=1):
        if not row or (number == 1 and row == ["path", "domain"]):
          continue
        if len(row) != 2 or not all(part.strip() for part in row):
          raise errors.DataError(
            f"{file} line {number} is {','.join(row)!r}; needed: path,domain."
          )
        path, domain = (part.strip() for part in row)
        if domain_of.setdefault(path, domain) != domain:
          raise errors.DataError(
            f"{file} line {number}: {path!r} is of {domain!r}, and above of"
            f" {domain_of[path]!r}."
          )
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise errors.DataError(f"{file} cannot be read: {error}.") from error
  missing = [path for path in images if path not in domain_of]
  if missing:
    raise errors.DataError(
      f"{file} says no domain of {errors.few(missing)}; needed: a line"
      " path,domain for each image, the path as in the folder."
    )
  names = sorted({domain_of[path] for path in images})
  place = {name: number for number, name in enumerate(names)}
  ids = [place[domain_of[path]] for path in images]
  return ImageDomains(names, np.array(ids, np.int32))
