"""Sets of images by their TFDS name, read from a prepared folder.

Reading needs no TensorFlow: files are array_record, random access goes
through TFDS's data sources and the order through Grain. Nothing is downloaded;
where a set is not there, one message says what to run.
"""

import concurrent.futures
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from normjax import rng
from normjax.data import (
  ahead,
  augment,
  corruptions,
  cuts,
  dataset,
  documents,
  specs,
  splits,
  tfds_source,
)

# Mean and standard deviation a channel of the training images over 255, as
# the official ResNet codes use them; grey sets share one value.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_MNIST = ((0.1307,), (0.3081,))
_FASHION = ((0.2860,), (0.3530,))


class NamedImages:
  """Labelled images in random-access storage; see `dataset.Dataset`."""

  reads = "images"
  targets = "classes"
  bytes_per_token = None

  def __init__(
    self,
    name: str,
    parts: cuts.Parts,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    size: int | None = None,
    augmented: bool = False,
    mirror: bool = True,
    scaling: str = "standardize",
    corruption_of: Mapping[str, str] | None = None,
    reading: ahead.Reading = ahead.NOTHING_AHEAD,
  ):
    """Opens all splits.

    Args:
      name: as in a config.
      parts: its splits.
      constants: mean and deviation of pixels over 255.
      size: side of the center that images are cut to; None keeps them.
      augmented: random crops and mirror images in training.
      mirror: whether a mirror image has the same label.
      scaling: "standardize", by `constants`, or "unit": pixels over 255.
      corruption_of: split -> corruption of its images when evaluated.
      reading: by what batches are made ahead.

    Raises:
      UserError: another scaling; what `cuts.sources` raises.
      DataError: see `cuts.sources`.
    """
    dataset.check_scaling(name, scaling)
    if scaling == "unit":
      constants = ((0.0,), (1.0,))
    self.name, self.size = name, size
    self._sources = cuts.sources(name, parts)
    self._train, self._split = self._sources[splits.TRAIN], splits.VALIDATION
    self._mean, self._deviation = (np.asarray(c) for c in constants)
    self._augmented, self._mirror = augmented, mirror
    self._corruption, self._corruption_of = "", dict(corruption_of or {})
    self._ahead = ahead.ReadAhead(self._train_batch, reading)
    self.model_options = _model_options(parts[splits.TRAIN][0], size)
    self.provenance = {
      split: tfds_source.provenance(parts[split][0], rows)
      | ({"corruption": c} if (c := self._corruption_of.get(split)) else {})
      for split, rows in self._sources.items()
    }

  def corrupted(self, corruption: str) -> "NamedImages":
    """The same with corrupted images where it evaluates.

    Large images are corrupted after they are cut.

    Args:
      corruption: "<kind>_<severity>"; see `corruptions.corrupt`.
    """
    other = copy.copy(self)
    other._corruption = corruption
    return other

  def on_split(self, split: str) -> "NamedImages":
    """The same, evaluated on another split.

    Raises:
      UserError: it has no such split.
    """
    splits.chosen(self.name, split, self._sources)
    other = copy.copy(self)
    other._split = split
    return other

  def _read(
    self,
    source: Any,
    index: list[int],
    random_key: tuple[int, ...] | None = None,
    corrupted_by: Sequence[str] = (),
  ) -> dataset.Batch:
    """Standardized images; crops of large ones drawn from `random_key`."""
    if self.size is None:
      rows = source.__getitems__(index)
      images = [row["image"] for row in rows]
    else:
      # Decoding and resizing leave Python's lock.
      with concurrent.futures.ThreadPoolExecutor() as pool:
        rows = list(pool.map(source.__getitem__, index))
        images = list(
          pool.map(
            lambda i: self._sized(rows[i]["image"], i, random_key),
            range(len(rows)),
          )
        )
    stored = np.stack(images)
    # The corrupted images are a data set of their own: one seed for all.
    for corruption in corrupted_by:
      stored = corruptions.corrupt(stored, corruption, 0, index)
    pixels = stored.astype(np.float32) / 255.0
    inputs = (pixels - self._mean) / self._deviation
    return {
      "inputs": inputs.astype(np.float32),
      "targets": np.asarray([row["label"] for row in rows], np.int32),
      "weight": np.ones(len(rows), np.float32),
    }

  def _sized(
    self,
    image_yxc: np.ndarray,
    position: int,
    random_key: tuple[int, ...] | None,
  ) -> np.ndarray:
    if random_key is None:
      return augment.resized_center(image_yxc, self.size)
    generator = np.random.default_rng((*random_key, position))
    return augment.resized_crop(image_yxc, self.size, generator)

  @property
  def num_train_examples(self) -> int:
    """Examples of an epoch."""
    return len(self._train)

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    return self._ahead.batch(seed, step, batch_size)

  def _train_batch(self, seed, step, batch_size) -> dataset.Batch:
    index = documents.chosen(seed, step, batch_size, len(self._train))
    key = (rng.host_seed(seed, "augment"), step) if self._augmented else None
    batch = self._read(self._train, index, key)
    if self._augmented and self.size is None:
      batch["inputs"] = augment.crop_and_flip(
        batch["inputs"], np.random.default_rng(key), mirror=self._mirror
      )
    return batch

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Examples of the validation split, in one fixed shuffled order."""
    rows = splits.chosen(self.name, self._split, self._sources)
    by = self._corruption_of.get(self._split, ""), self._corruption
    for index, weight in dataset.evaluation_slices(
      len(rows), batch_size, num_batches
    ):
      batch = self._read(
        rows, [int(i) for i in index], corrupted_by=[*filter(None, by)]
      )
      yield {**batch, "weight": weight}


def _model_options(builder: Any, size: int | None) -> dict[str, Any]:
  """What a model of the images needs to know; the files need not be there."""
  features = builder.info.features
  shape = features["image"].shape
  side = (size, size) if size else shape[:2]
  return {
    "num_classes": features["label"].num_classes,
    "input_shape": (*side, shape[-1]),
  }


# Of the options of a cut, in docstrings.
SPLITS = """      train_split: a TFDS split or a part of it, as in {0!r}.
      tuning_split: likewise, to make choices on; None is {1!r} unless another
        part is trained on or validates, and "" none.
      validation_split: likewise, {2!r}.
      test_split: likewise, read where it is asked for; None is {3!r}, "" none,
        as for `tuning_split`."""


READING = """      threads: that make batches ahead of the step; 0: none.
      workers: processes that do, in place of the threads."""


def _images(name, constants, cut=cuts.TENTHS, size=None, mirror=True):
  """The factory of a set of images."""

  def begin(
    augment: bool = False,
    train_split: str = cut.train,
    tuning_split: str | None = None,
    validation_split: str = cut.validation,
    test_split: str | None = None,
    scaling: str = "standardize",
    threads: int = 1,
    workers: int = 0,
    data_dir: str | None = None,
  ) -> specs.Opening:
    dataset.check_scaling(name, scaling)
    reading = ahead.Reading(threads, workers)
    reading.check(name)
    builder = tfds_source.known(name, data_dir)
    asked = cut.given(train_split, tuning_split, validation_split, test_split)
    parts = asked.parts(builder)

    def opened() -> NamedImages:
      tfds_source.check_prepared(name, builder)
      return NamedImages(
        name,
        parts,
        constants,
        size=size,
        augmented=augment,
        mirror=mirror,
        scaling=scaling,
        reading=reading,
      )

    options = _model_options(builder, size)
    return specs.Opening(specs.of_images(name, options, parts), opened)

  begin.__doc__ = f"""The TFDS set {name!r}.

    Args:
      augment: random crops and mirror images in training.
{SPLITS.format(*cut)}
      scaling: "standardize", or "unit": pixels in [0, 1].
{READING}
      data_dir: TFDS's folder of prepared sets; None is TFDS's default.

    Raises:
      UserError: another scaling, or splits that overlap.
      DataError: it is not prepared there; the message says what to run.
    """
  return specs.factory(begin)


mnist = _images("mnist", _MNIST, mirror=False)
fashion_mnist = _images("fashion_mnist", _FASHION)
cifar10 = _images("cifar10", _CIFAR10)
cifar100 = _images("cifar100", _CIFAR100)
# What is called validation there is what papers report: it is the test split.
imagenet2012 = _images(
  "imagenet2012",
  _IMAGENET,
  cuts.Cut("train[:98%]", "train[98%:99%]", "train[99%:]", "validation"),
  size=224,
)


@specs.factory
def cifar10_corrupted(
  corruption: str = "gaussian_noise_1",
  augment: bool = False,
  train_split: str = cuts.TENTHS.train,
  tuning_split: str | None = None,
  validation_split: str = cuts.TENTHS.validation,
  scaling: str = "standardize",
  threads: int = 1,
  workers: int = 0,
  data_dir: str | None = None,
) -> specs.Opening:
  """CIFAR-10 to train on, CIFAR-10-C as the test split: arXiv:1903.12261.

  Its images are those of CIFAR-10's test set. So what validates is the last
  tenth of the training set, corrupted by `normjax.data.corruptions`; of "frost"
  and "spatter", which those do not have, nothing validates. Choices are made on
  clean images.

  Args:
    corruption: "<kind>_<severity 1 to 5>", as TFDS names its configs.
    augment: random crops and mirror images in training.
    train_split: of CIFAR-10, a TFDS split or a part of it.
    tuning_split: likewise, to make choices on; None is "train[80%:90%]" unless
      another part is trained on or validates, and "" none.
    validation_split: likewise, corrupted; "" is none.
    scaling: "standardize", or "unit": pixels in [0, 1].
    threads: that make batches ahead of the step; 0 makes none ahead.
    workers: processes that do, in place of the threads.
    data_dir: TFDS's folder of prepared sets; None is TFDS's default.

  Raises:
    UserError: a severity outside 1 to 5, or splits that overlap.
    DataError: an unknown kind, or one of the two sets is not prepared; the
      message says what to run.
  """
  kind, severity = corruptions.split(corruption)
  corruptions.check_severity(kind, severity)
  dataset.check_scaling("cifar10_corrupted", scaling)
  reading = ahead.Reading(threads, workers)
  reading.check("cifar10_corrupted")
  corrupted = tfds_source.known(f"cifar10_corrupted/{corruption}", data_dir)
  clean = tfds_source.known("cifar10", data_dir)
  cut = cuts.TENTHS.given(train_split, tuning_split, validation_split, "")
  parts = cut.parts(clean) | {splits.TEST: (corrupted, "test")}
  if kind not in corruptions.KINDS:
    parts.pop(splits.VALIDATION, None)

  def opened() -> NamedImages:
    tfds_source.check_prepared(f"cifar10_corrupted/{corruption}", corrupted)
    tfds_source.check_prepared("cifar10", clean)
    return NamedImages(
      "cifar10_corrupted",
      parts,
      _CIFAR10,
      augmented=augment,
      scaling=scaling,
      corruption_of={splits.VALIDATION: corruption},
      reading=reading,
    )

  options = _model_options(clean, None)
  found = specs.of_images("cifar10_corrupted", options, parts)
  return specs.Opening(found, opened)
