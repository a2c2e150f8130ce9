"""Corruptions by name."""

import itertools
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from normjax import errors
from normjax.data.corruptions import blur, digital, noise, weather
from normjax.data.corruptions.kind import Draws, Kind
from normjax.registry import Table

SEVERITIES = (1, 2, 3, 4, 5)
KINDS: dict[str, Kind] = {
  kind.name: kind
  for kind in itertools.chain(
    noise.KINDS, blur.KINDS, weather.KINDS, digital.KINDS
  )
}
_TABLE = Table("corruption", KINDS.values())
_GROUPS = {
  "all": tuple(KINDS),
  "common": tuple(name for name, kind in KINDS.items() if kind.common),
}
_LEFT_OUT = {
  "frost": "blends in photographs that do not come with this package",
  "spatter": "needs OpenCV's edge detection",
}


def corrupt(
  images_byxc: np.ndarray,
  corruption: str | tuple[str, int],
  seed: int = 0,
  index_b: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
  """Corrupted images.

  What is drawn for an image depends on the seed, the kind and the image's
  index, not on the batch it is in nor on the severity.

  Args:
    images_byxc: (b, y, x, c), uint8 or floats from 0 (black) to 1 (white);
      c is 1 or 3. Computed in float64.
    corruption: "<kind>_<severity>" or (kind, severity).
    seed: of the random numbers.
    index_b: of each image; 0, 1, … unless given.

  Returns:
    Images of the same shape and dtype; uint8 is truncated, as in the authors'
    generator.

  Raises:
    UserError: an unknown kind, a severity outside 1 to 5, or no images.
  """
  kind, severity = parse(corruption)
  _check_images(images_byxc)
  if index_b is None:
    index_b = np.arange(len(images_byxc))
  if len(index_b) != len(images_byxc):
    raise errors.UserError(
      f"corrupt: {len(index_b)} indices for {len(images_byxc)} images."
    )
  if not len(images_byxc):
    return images_byxc.copy()
  is_bytes = images_byxc.dtype == np.uint8
  pixels = np.asarray(images_byxc, np.float64) / (255 if is_bytes else 1)
  constants = kind.constants[severity - 1]
  result = kind.apply(pixels, Draws(seed, kind.name, index_b), *constants)
  result = np.clip(result, 0, 1)
  return (result * (255 if is_bytes else 1)).astype(images_byxc.dtype)


def parse(corruption: str | tuple[str, int]) -> tuple[Kind, int]:
  """The kind and the severity of "<kind>_<severity>" or of the pair.

  Raises:
    UnknownNameError: no such kind; the message lists near misses.
    UserError: a severity outside 1 to 5, or none, or a kind left out.
  """
  name, severity = (
    split(corruption) if isinstance(corruption, str) else corruption
  )
  if name in _LEFT_OUT:
    raise errors.UserError(
      f"corruption {name!r} is left out: it {_LEFT_OUT[name]}. Known:"
      f" {', '.join(KINDS)}."
    )
  kind = _TABLE.resolve(name)
  return kind, check_severity(name, severity)


def check_severity(name: str, severity: int | None) -> int:
  """The severity, where it is one of the five.

  Raises:
    UserError: it is none of them, or None.
  """
  if severity in SEVERITIES:
    return int(severity)
  problem = "is missing" if severity is None else "is outside 1 to 5"
  given = "" if severity is None else f"{severity!r} "
  raise errors.UserError(
    f"corruption {name!r}: the severity {given}{problem}; allowed:"
    f" {', '.join(f'{name}_{s}' for s in SEVERITIES)}."
  )


def split(corruption: str) -> tuple[str, int | None]:
  """The name and, where it ends in a number, the severity."""
  found = re.fullmatch(r"(.*)_(-?\d+)", corruption)
  return (found[1], int(found[2])) if found else (corruption, None)


def expand(corruptions: Iterable[str]) -> tuple[str, ...]:
  """The "<kind>_<severity>" that are meant, each once, in the order given.

  Args:
    corruptions: each "<kind>_<severity>", a kind, which stands for its five
      severities, "common", the benchmark's common kinds, or "all".

  Raises:
    UserError: as `parse`.
  """
  found = []
  for entry in corruptions:
    for name in _GROUPS.get(entry, (entry,)):
      kind, severity = split(name)
      severities = SEVERITIES if severity is None else (severity,)
      for s in severities:
        found.append(f"{parse((kind, s))[0].name}_{s}")
  return tuple(dict.fromkeys(found))


def means(
  accuracy: Mapping[str, float], clean_accuracy: float
) -> dict[str, float]:
  """Mean performance under corruption, mPC, and relative to clean, rPC.

  Michaelis et al. 2019, arXiv:1907.07484: the mean over kinds of each kind's
  mean over severities.

  Args:
    accuracy: by "<kind>_<severity>".
    clean_accuracy: of the same state on the images as they are.

  Returns:
    "mean_corrupted_accuracy" and "relative_corrupted_accuracy"; the latter is
    not a number where nothing clean is right.
  """
  by_kind: dict[str, list[float]] = {}
  for name, value in accuracy.items():
    by_kind.setdefault(split(name)[0], []).append(value)
  mean = statistics.fmean(statistics.fmean(v) for v in by_kind.values())
  relative = mean / clean_accuracy if clean_accuracy else float("nan")
  return {
    "mean_corrupted_accuracy": mean,
    "relative_corrupted_accuracy": relative,
  }


def _check_images(images: np.ndarray) -> None:
  shape, dtype = np.shape(images), getattr(images, "dtype", None)
  if len(shape) != 4 or shape[-1] not in (1, 3) or min(shape[1:3]) < 4:
    raise errors.UserError(
      f"corrupt: images of shape {shape}; (images, height, width, channels)"
      " is needed, at least 4 x 4 pixels, with 1 or 3 channels."
    )
  if dtype == np.uint8:
    return
  if not np.issubdtype(dtype, np.floating):
    raise errors.UserError(
      f"corrupt: images of {dtype}; allowed: uint8, or floats from 0 to 1."
    )
  if images.size and not (images.min() >= 0 and images.max() <= 1):
    raise errors.UserError(
      f"corrupt: floats from {images.min()} to {images.max()}; 0 (black) to 1"
      " (white) is needed: corrupt before standardizing."
    )
