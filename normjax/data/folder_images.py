"""Batches of labelled images in files."""

import copy
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normjax import errors, rng
from normjax.data import (
  ahead,
  augment,
  corruptions,
  dataset,
  examples,
  files,
  folder_layout,
  image_domains,
  image_files,
  splits,
)
from normjax.nn import given

_LOG = logging.getLogger(__name__)


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
    domains: image_domains.ImageDomains | None,
    constants: tuple[Sequence[float], Sequence[float]],
    crop: str,
    mirror: bool,
    reading: ahead.Reading,
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
      domains: which domain each image is from; None: nothing says it.
      constants: mean and deviation of pixels over 255.
      crop: how training images are changed: "" not at all, "resized" or
        "padded".
      mirror: whether a mirror image has the same label.
      reading: by what batches are made ahead.
      provenance: what `run.json` says.
    """
    self._root, self._found, self._form, self._bad = root, found, form, bad
    self._stored, self._crop, self._mirror = stored, crop, mirror
    self._domains = domains
    self._mean, self._deviation = (np.asarray(c, np.float32) for c in constants)
    self._split, self._corruption = splits.VALIDATION, ""
    self.provenance = provenance
    # What is in memory as it is drawn needs no reading ahead.
    is_costly = stored is None or bool(crop)
    self._ahead = ahead.ReadAhead(
      self._train_batch, reading if is_costly else ahead.NOTHING_AHEAD
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
  def num_domains(self) -> int:
    """How many domains there are; 0: batches do not say any."""
    return 0 if self._domains is None else len(self._domains.names)

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
    there = {n: index for n, index in self._found.splits.items() if len(index)}
    splits.chosen(self.name, split, there)
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
    batch = {
      "inputs": inputs,
      "targets": self._found.labels[index].astype(np.int32),
      "weight": weight,
    }
    if self._domains is not None:
      batch[given.DOMAIN] = self._domains.ids[index]
    return batch

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
