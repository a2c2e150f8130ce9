"""How a folder of images says labels and splits: by its subfolders."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from normjax import errors
from normjax.data import files, image_files, splits

# Names of folders that are a split; the first that is there counts.
_FOLDERS = {
  splits.TRAIN: ("train", "training"),
  splits.VALIDATION: ("val", "valid", "validation", "dev"),
  splits.TEST: ("test",),
}


class Found(NamedTuple):
  """The images of a folder.

  Attributes:
    names: paths relative to the root, sorted within a split and a class.
    labels: (n,) int32, indices of `classes`.
    classes: the names of the class folders, sorted.
    splits: split -> indices; empty arrays where there is none.
    ignored: how many files are no images by their names.
  """

  names: list[str]
  labels: np.ndarray
  classes: list[str]
  splits: splits.Splits
  ignored: int


def find(
  root: Path,
  fractions: splits.Fractions,
  bad: files.BadFiles,
) -> Found:
  """Lists the images below `root/<class>/` or `root/<split>/<class>/`.

  A folder has splits where its `train` has folders. A split that has no folder
  is taken from the training part by the hash of each path below it; so are all
  in a folder without splits.

  Args:
    root: the folder.
    fractions: of what the hash divides; none is taken for a split that has a
      folder.
    bad: gets what cannot be read.

  Raises:
    DataError: there are no images, or a split has a class that the training
      part does not have.
  """
  parts = {
    split: next((n for n in names if _folders(root / n)), None)
    for split, names in _FOLDERS.items()
  }
  if parts[splits.TRAIN] is None:
    parts = {splits.TRAIN: "", splits.VALIDATION: None, splits.TEST: None}
  listed: dict[str, list[tuple[str, str]]] = {}
  ignored = 0
  for split, part in parts.items():
    if part is not None:
      listed[split], others = _images(root, part, bad)
      ignored += others
  classes = sorted({label for label, _ in listed[splits.TRAIN]})
  if not classes:
    raise errors.DataError(
      f"root={str(root)!r} has no images; needed: a folder per class with"
      f" {' '.join(sorted(image_files.SUFFIXES))} files, below it or below its"
      f" train/ and val/.{_said(root)}"
    )
  if {*classes} <= {name for names in _FOLDERS.values() for name in names}:
    raise errors.DataError(
      f"root={str(root)!r}: {', '.join(classes)} hold images, but no folder per"
      " class; needed: train/<class>/, or <class>/ where the hash is to divide."
    )
  if len(classes) == 1:
    raise errors.DataError(
      f"root={str(root)!r} has one class, {classes[0]!r}; needed: two or more."
    )
  for split, part in listed.items():
    if unknown := sorted({label for label, _ in part} - {*classes}):
      raise errors.DataError(
        f"root={str(root)!r}: {parts[split]} has classes that"
        f" {parts[splits.TRAIN]} has no images of: {', '.join(unknown)}."
      )
  number = {label: index for index, label in enumerate(classes)}
  images = [image for part in listed.values() for image in part]
  return Found(
    [name for _, name in images],
    np.asarray([number[label] for label, _ in images], np.int32),
    classes,
    _split(listed, parts[splits.TRAIN], fractions),
    ignored,
  )


def _folders(folder: Path) -> list[str]:
  """The class folders in a folder, sorted; none where it is no folder."""
  if not folder.is_dir():
    return []
  return sorted(
    p.name
    for p in folder.iterdir()
    if p.is_dir() and not files.is_hidden(p.name)
  )


def _images(
  root: Path, part: str, bad: files.BadFiles
) -> tuple[list[tuple[str, str]], int]:
  """(class, path below root) of each image, and how many files are none."""
  found, ignored = [], 0
  for label in _folders(root / part):
    below = f"{part}/{label}" if part else label
    names, others = files.walk(root, below, image_files.SUFFIXES, bad)
    found += [(label, name) for name in names]
    ignored += others
    if not names:
      bad.add(f"{below}/", "a class without an image")
  return found, ignored


def _split(
  listed: dict[str, list[tuple[str, str]]],
  train_part: str | None,
  fractions: splits.Fractions,
) -> dict[str, np.ndarray]:
  """Split -> indices into all images, in the order of `listed`."""
  ends = np.cumsum([len(images) for images in listed.values()])
  given = {
    split: np.arange(end - len(listed[split]), end)
    for split, end in zip(listed, ends, strict=True)
  }
  # The path below the split's folder: what a set is split by is not changed
  # by where it lies.
  skipped = len(f"{train_part}/") if train_part else 0
  keys = (name[skipped:] for _, name in listed[splits.TRAIN])
  drawn = splits.by_share(
    splits.shares(key.encode(errors="surrogateescape") for key in keys),
    fractions.without(given),
  )
  return {**drawn, **given, splits.TRAIN: drawn[splits.TRAIN]}


def _said(root: Path) -> str:
  there = sorted(p.name for p in root.iterdir() if not files.is_hidden(p.name))
  return f" There is {', '.join(there[:10]) or 'nothing'}."


def without(found: Found, bad: files.BadFiles) -> Found:
  """What is left of the images where bad ones and small classes are left out.

  A class of one image can be trained on or evaluated, not both; one without a
  training image cannot be learned.

  Args:
    found: all images.
    bad: names that are left out; gets the classes.
  """
  names = bad.names()
  is_good = np.array([name not in names for name in found.names], bool)
  trains = np.zeros(len(found.names), bool)
  trains[found.splits[splits.TRAIN]] = True
  count = len(found.classes)
  images = np.bincount(found.labels[is_good], minlength=count)
  training = np.bincount(found.labels[is_good & trains], minlength=count)
  kept = []
  for index, label in enumerate(found.classes):
    if images[index] < 2:
      bad.add(f"{label}/", f"a class with {images[index]} whole image of 2")
    elif not training[index]:
      bad.add(f"{label}/", "a class without a training image")
    else:
      kept.append(index)
  is_kept = is_good & np.isin(found.labels, kept)
  place = np.cumsum(is_kept) - 1
  renumbered = np.full(count, -1, np.int32)
  renumbered[kept] = np.arange(len(kept))
  return Found(
    [name for name, keeps in zip(found.names, is_kept, strict=True) if keeps],
    renumbered[found.labels[is_kept]],
    [found.classes[index] for index in kept],
    {
      split: place[index[is_kept[index]]]
      for split, index in found.splits.items()
    },
    found.ignored,
  )
