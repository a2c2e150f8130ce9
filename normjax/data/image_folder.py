"""Images of one's own: a folder per class."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from normjax import configure, errors, validate
from normjax.data import (
  ahead,
  cache,
  dataset,
  examples,
  files,
  folder_images,
  folder_layout,
  image_domains,
  image_files,
  splits,
)

_LOG = logging.getLogger(__name__)
# Mean and deviation of pixels over 255, of the training images of ImageNet; of
# grey ones, the means of the three.
_COLOR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_GREY = ((0.449,), (0.226,))
# So many images take long enough to say so.
_SAID_FROM = 1000
_CROPS = ("resized", "padded")


def image_folder(
  root: str | None = None,
  image_size: int = 64,
  channels: int = 3,
  crop_fraction: float = 1.0,
  augment: bool = False,
  crop: str = "resized",
  mirror: bool = True,
  scaling: str = "standardize",
  mean: Sequence[float] = (),
  deviation: Sequence[float] = (),
  validation_fraction: float = 0.1,
  test_fraction: float = 0.0,
  tuning_fraction: float = 0.1,
  domains: str = "",
  on_bad_file: str = "refuse",
  prepare_up_to_mb: int = 512,
  read_ahead: int = 2,
  threads: int = 1,
) -> folder_images.ImageFolder:
  """Images below `root/<class>/`, or below `root/train/<class>/` and so on.

  Where a split has no folder, a hash of each path draws it: files that are
  added do not move the others. The test split is only read by `on_split`.

  Where the files, and the pixels made of them, are at most
  `prepare_up_to_mb`, all are decoded at the first start and kept in the cache.
  More are decoded as they are drawn: at the start only their first bytes are
  looked at.

  Args:
    root: the folder; relative to the current one.
    image_size: side of the square that models read, pixels.
    channels: 3 for red, green and blue, 1 for grey.
    crop_fraction: the shorter side is resized to image_size / crop_fraction,
      and the center is cut out; 0.875 is ImageNet's evaluation.
    augment: whether training images are changed at random.
    crop: how: "resized", a part of 8% to 100% of the area; "padded", shifts
      of up to 4 pixels, as for CIFAR-10.
    mirror: whether they are also mirrored, half of the time.
    scaling: "standardize", by `mean` and `deviation`, or "unit": pixels in
      [0, 1].
    mean: of pixels over 255, one per channel; empty takes ImageNet's.
    deviation: likewise.
    validation_fraction: of the images; not used where there is a `val/`.
    test_fraction: likewise, of `test/`.
    tuning_fraction: of the images, to make choices on; taken from those that
      would train.
    domains: a CSV file in the folder, with a line "path,domain" for each
      image: its path in the folder, and any text. "" says no domains.
    on_bad_file: "refuse" or "skip": of files that are no whole image, and of
      classes with less than two images or none to train on.
    prepare_up_to_mb: megabytes; 0 decodes as drawn.
    read_ahead: batches that are decoded ahead of the step; 0 is none.
    threads: that make them, each with all cores to decode; 0 makes none ahead.

  Raises:
    UserError: an option out of range.
    DataError: no such folder, no images, or bad ones.
  """
  name = "image_folder"
  validate.counts(name, image_size=image_size)
  validate.choice(name, "channels", channels, (1, 3))
  validate.share(name, "crop_fraction", crop_fraction)
  validate.choice(name, "crop", crop, _CROPS)
  dataset.check_scaling(name, scaling)
  fractions = splits.Fractions(
    test_fraction, validation_fraction, tuning_fraction
  )
  fractions.check(name)
  validate.flags(name, augment=augment, mirror=mirror)
  validate.count(name, "prepare_up_to_mb", prepare_up_to_mb, 0)
  validate.count(name, "read_ahead", read_ahead, 0)
  reading = ahead.Reading(threads, batches=read_ahead)
  reading.check(name)
  bad = files.BadFiles(name, on_bad_file)
  constants = _constants(name, channels, scaling, mean, deviation)
  folder = files.given_path("root", root)
  if not folder.is_dir():
    raise errors.DataError(f"root={str(root)!r} is a file; needed: a folder.")
  form = image_files.Form(image_size, channels, crop_fraction)

  found = folder_layout.find(folder, fractions, bad)
  named = [domains] if domains else []
  if named and not (folder / domains).is_file():
    raise errors.DataError(
      f"domains={domains!r}: there is no such file in {folder}."
    )
  print_of = files.fingerprint(folder, [*found.names, *named])
  stored, unreadable = _looked_at(
    folder, found, form, print_of, prepare_up_to_mb << 20
  )
  for index, why in unreadable:
    bad.add(found.names[index], why)
  row = {path: index for index, path in enumerate(found.names)}
  used = folder_layout.without(found, bad)
  bad.settle(folder, len(found.names))
  for split in (splits.TRAIN, splits.VALIDATION):
    if not len(used.splits[split]):
      raise errors.DataError(
        f"root={str(root)!r} has no image for the {split} split; with"
        f" validation_fraction={validation_fraction} the hash gave it none of"
        f" {len(used.names)}. Raise that, or give a folder val/."
      )
  ids = None
  if named:
    ids = image_domains.read(folder / domains, used.names)
  if stored is not None and len(used.names) < len(found.names):
    kept = np.array([row[path] for path in used.names])
    stored = examples.Rows(stored, kept)
  return folder_images.ImageFolder(
    folder,
    used,
    form,
    bad,
    stored=stored,
    domains=ids,
    constants=constants,
    crop=crop if augment else "",
    mirror=mirror,
    reading=reading,
    provenance={
      "root": str(folder.resolve()),
      **print_of.provenance(),
      "classes": used.classes,
      "sizes": {split: len(index) for split, index in used.splits.items()},
      **({} if ids is None else {"domains": ids.names}),
      "skipped": bad.provenance(),
      "not_images": found.ignored,
    },
  )


def _constants(name, channels, scaling, mean, deviation):
  if scaling == "unit":
    return (0.0,), (1.0,)
  standard = _COLOR if channels == 3 else _GREY
  for option, value in (("mean", mean), ("deviation", deviation)):
    if len(value):
      validate.vector(name, option, value, channels)
  for value in deviation:
    validate.positive(name, deviation=value)
  return tuple(mean) or standard[0], tuple(deviation) or standard[1]


def _looked_at(
  root: Path,
  found: folder_layout.Found,
  form: image_files.Form,
  print_of: files.Fingerprint,
  most_bytes: int,
) -> tuple[np.ndarray | None, list[tuple[int, str]]]:
  """The images, where they are few, and which files are known to be bad."""
  import PIL

  paths = [root / name for name in found.names]
  pixels_bytes = len(paths) * int(np.prod(form.shape))
  if max(pixels_bytes, print_of.total_bytes) > most_bytes:
    facts = files.kept_facts(
      f"images/headers-{print_of.key}",
      lambda: {"bad": image_files.check_headers(paths)},
    )
    return None, facts["bad"]

  def prepare(draft: Path) -> None:
    if len(paths) > _SAID_FROM:
      _LOG.warning("data: decoding %d images, once", len(paths))
    out = np.lib.format.open_memmap(
      draft / "images.npy", "w+", np.uint8, (len(paths), *form.shape)
    )
    files.write_facts(draft, {"bad": image_files.read_all(form, paths, out)})
    out.flush()

  key = configure.digest([print_of.value, *form, PIL.__version__, found.names])
  folder = cache.entry(f"images/{key}", prepare)
  stored = np.load(folder / "images.npy", mmap_mode="r")
  return stored, files.read_facts(folder)["bad"]
