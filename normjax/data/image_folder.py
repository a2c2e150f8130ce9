"""Images of one's own: a folder per class."""

import copy
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normjax import configure, errors, rng, validate
from normjax.data import (
  ahead,
  augment,
  cache,
  corruptions,
  dataset,
  examples,
  files,
  folder_layout,
  image_files,
  splits,
)

_LOG = logging.getLogger(__name__)
# Mean and deviation of pixels over 255, of the training images of ImageNet; of
# grey ones, the means of the three.
_COLOR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_GREY = ((0.449,), (0.226,))
_CROPS = ("resized", "padded")


class ImageFolder:
  """Labelled images in files; see `dataset.Dataset` and `image_folder`.

  A file that turns out to be no whole image while it is read has weight 0
  wherever it is drawn, so that a batch is what it is in every process.
  """

  name = "image_folder"
  reads = "images"
  targets = "classes"
  bytes_per_token = None

  def __init__(
    self,
    root: Path,
    found: folder_layout.Found,
    form: image_files.Form,
    bad: files.BadFiles,
    *,
    stored: np.ndarray | examples.Rows | None,
    constants: tuple[Sequence[float], Sequence[float]],
    crop: str,
    mirror: bool,
    read_ahead: int,
    provenance: Mapping[str, Any],
  ):
    """Reads nothing yet.

    Args:
      root: of the names.
      found: the images that are used.
      form: what is made of them.
      bad: what is left out, and what else turns out to be.
      stored: (n, y, x, c), uint8: the images as `form` makes them; None reads
        the files.
      constants: mean and deviation of pixels over 255.
      crop: how training images are changed: "" not at all, "resized" or
        "padded".
      mirror: whether a mirror image has the same label.
      read_ahead: batches that are made ahead.
      provenance: what `run.json` says.
    """
    self._root, self._found, self._form, self._bad = root, found, form, bad
    self._stored, self._crop, self._mirror = stored, crop, mirror
    self._mean, self._deviation = (np.asarray(c, np.float32) for c in constants)
    self._split, self._corruption = splits.VALIDATION, ""
    self.provenance = provenance
    # What is in memory as it is drawn needs no reading ahead.
    self._ahead = ahead.ReadAhead(
      self._train_batch, read_ahead if stored is None or crop else 0
    )
    self.model_options = {
      "num_classes": len(found.classes),
      "input_shape": form.shape,
    }

  @property
  def notes(self) -> list[str]:
    """What is left out, in one sentence; empty where nothing is."""
    return self._bad.notes()

  @property
  def classes(self) -> list[str]:
    """The name of each label."""
    return self._found.classes

  @property
  def num_train_examples(self) -> int:
    """Examples of an epoch."""
    return len(self._found.splits[splits.TRAIN])

  def corrupted(self, corruption: str) -> "ImageFolder":
    """The same with corrupted images where it evaluates.

    Args:
      corruption: "<kind>_<severity>"; see `corruptions.corrupt`.
    """
    other = copy.copy(self)
    other._corruption = corruption
    return other

  def on_split(self, split: str) -> "ImageFolder":
    """The same, evaluated on another split, without augmentation.

    Raises:
      UserError: it has no image there.
    """
    there = [name for name, index in self._found.splits.items() if len(index)]
    splits.check_split(self.name, split, there)
    other = copy.copy(self)
    other._split = split
    return other

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    return self._ahead.batch(seed, step, batch_size)

  def _train_batch(self, seed, step, batch_size) -> dataset.Batch:
    members = self._found.splits[splits.TRAIN]
    chosen = dataset.indices(seed, step, batch_size, len(members))
    key = rng.host_seed(seed, "augment"), step
    images, weight = self._read(
      members[chosen[:, 1]], key if self._crop == "resized" else None
    )
    inputs = self._scaled(images)
    if self._crop == "padded":
      inputs = augment.crop_and_flip(
        inputs, np.random.default_rng(key), mirror=self._mirror
      )
    return self._batch(inputs, members[chosen[:, 1]], weight)

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Images of the validation split, in one fixed shuffled order."""
    members = self._found.splits[self._split]
    for place, counts in dataset.evaluation_slices(
      len(members), batch_size, num_batches
    ):
      index = members[place]
      images, weight = self._read(index, None)
      if self._corruption:
        # An image is corrupted by its path, whatever files are beside it.
        images = corruptions.corrupt(
          images, self._corruption, 0, [self._number(i) for i in index]
        )
      yield self._batch(self._scaled(images), index, weight * counts)

  def _number(self, index: int) -> int:
    path = self._found.names[index].encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(path, digest_size=4).digest()) >> 1

  def _batch(self, inputs, index, weight) -> dataset.Batch:
    return {
      "inputs": inputs,
      "targets": self._found.labels[index].astype(np.int32),
      "weight": weight,
    }

  def _scaled(self, images: np.ndarray) -> np.ndarray:
    pixels = images.astype(np.float32) / np.float32(255)
    return (pixels - self._mean) / self._deviation

  def _read(
    self, index: np.ndarray, key: tuple[int, ...] | None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Images (b, y, x, c), uint8, and weights (b,): 0 where there is none."""
    if self._stored is not None and key is None:
      return self._stored[index], np.ones(len(index), np.float32)

    def one(place: int) -> np.ndarray | None:
      name = self._found.names[index[place]]
      draws = key and np.random.default_rng((*key, place))
      try:
        return self._form.read(self._root / name, draws, mirror=self._mirror)
      except image_files.Unreadable as error:
        self._refuse(name, str(error))
        return None

    read = list(image_files.pool().map(one, range(len(index))))
    nothing = np.zeros(self._form.shape, np.uint8)
    return (
      np.stack([nothing if image is None else image for image in read]),
      np.array([image is not None for image in read], np.float32),
    )

  def _refuse(self, name: str, why: str) -> None:
    """Notes a file that was found to be bad; raises unless it is skipped."""
    if not self._bad.skips:
      raise errors.DataError(
        f"on_bad_file='refuse': {self._root / name} cannot be used: {why}."
        " Mend or remove it, or set data.on_bad_file='skip': then it weighs"
        " nothing."
      )
    if name not in self._bad.names():
      self._bad.add(name, why)
      _LOG.warning("data: %s weighs nothing: %s", self._root / name, why)


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
  on_bad_file: str = "refuse",
  prepare_up_to_mb: int = 512,
  read_ahead: int = 2,
) -> ImageFolder:
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
    on_bad_file: "refuse" or "skip": of files that are no whole image, and of
      classes with less than two images or none to train on.
    prepare_up_to_mb: megabytes; 0 decodes as drawn.
    read_ahead: batches that are decoded ahead of the step; 0 is none.

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
  splits.check_fractions(name, validation_fraction, test_fraction)
  validate.flags(name, augment=augment, mirror=mirror)
  validate.count(name, "prepare_up_to_mb", prepare_up_to_mb, 0)
  validate.count(name, "read_ahead", read_ahead, 0)
  bad = files.BadFiles(name, on_bad_file)
  constants = _constants(name, channels, scaling, mean, deviation)
  folder = files.given_path("root", root)
  if not folder.is_dir():
    raise errors.DataError(f"root={str(root)!r} is a file; needed: a folder.")
  form = image_files.Form(image_size, channels, crop_fraction)

  found = folder_layout.find(folder, validation_fraction, test_fraction, bad)
  print_of = files.fingerprint(folder, found.names)
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
  if stored is not None and len(used.names) < len(found.names):
    kept = np.array([row[path] for path in used.names])
    stored = examples.Rows(stored, kept)
  return ImageFolder(
    folder,
    used,
    form,
    bad,
    stored=stored,
    constants=constants,
    crop=crop if augment else "",
    mirror=mirror,
    read_ahead=read_ahead,
    provenance={
      "root": str(folder.resolve()),
      **print_of.provenance(),
      "classes": used.classes,
      "sizes": {split: len(index) for split, index in used.splits.items()},
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
    if len(paths) > 5000:
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
