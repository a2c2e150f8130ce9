"""Data sets by their TFDS name, read from a prepared folder.

Reading needs no TensorFlow: files are array_record, random access goes
through `tfds.data_source` and the order through Grain. Nothing is downloaded;
where a set is not there, one message says what to run.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from normjax import rng
from normjax.data import dataset, embedded, examples, tfds_source

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
  bytes_per_token = None

  def __init__(
    self,
    name: str,
    tfds_name: str,
    splits: tuple[str, str],
    constants: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    size: int | None = None,
    augment: bool = False,
    data_dir: str | None = None,
  ):
    """Opens both splits.

    Args:
      name: as in a config.
      tfds_name: "name" or "name/config".
      splits: TFDS splits to train on and to validate on.
      constants: mean and deviation of pixels over 255.
      size: side to which images are resized and center-cropped; None keeps
        them.
      augment: crops and mirror images in training.
      data_dir: TFDS's; None is TFDS's default.
    """
    builder = tfds_source.prepared(tfds_name, data_dir)
    self.name, self.size = name, size
    self._train, self._validation = (
      tfds_source.source(builder, split) for split in splits
    )
    self._mean, self._deviation = (np.asarray(c) for c in constants)
    self._augment = examples.crop_and_flip() if augment else None
    shape = builder.info.features["image"].shape
    side = (size, size) if size else shape[:2]
    self.model_options = {
      "num_classes": builder.info.features["label"].num_classes,
      "input_shape": (*side, shape[-1]),
    }
    self.provenance = tfds_source.provenance(builder, splits)

  def _stack(self, rows: list[Mapping[str, Any]]) -> dataset.Batch:
    images = np.stack([self._sized(np.asarray(r["image"])) for r in rows])
    inputs = (images.astype(np.float32) / 255.0 - self._mean) / self._deviation
    return {
      "inputs": inputs.astype(np.float32),
      "targets": np.asarray([row["label"] for row in rows], np.int32),
      "weight": np.ones(len(rows), np.float32),
    }

  def _sized(self, image_yxc: np.ndarray) -> np.ndarray:
    """Shorter side to 8/7 of `size`, then the center, as in evaluation."""
    if self.size is None:
      return image_yxc
    from PIL import Image

    height, width, _ = image_yxc.shape
    scale = self.size * 8 / 7 / min(height, width)
    resized = Image.fromarray(image_yxc).resize(
      (round(width * scale), round(height * scale)), Image.Resampling.BILINEAR
    )
    top = (resized.height - self.size) // 2
    left = (resized.width - self.size) // 2
    box = (left, top, left + self.size, top + self.size)
    return np.asarray(resized.crop(box))

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    order = _order(len(self._train), rng.host_seed(seed, "data"))
    positions = range(step * batch_size, (step + 1) * batch_size)
    chosen = [int(order[position]) for position in positions]
    batch = self._stack(self._train.__getitems__(chosen))
    if self._augment is not None:
      generator = np.random.default_rng((rng.host_seed(seed, "augment"), step))
      batch["inputs"] = self._augment(batch["inputs"], generator)
    return batch

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Validation examples, in one fixed shuffled order."""
    for index, weight in dataset.evaluation_slices(
      len(self._validation), batch_size, num_batches
    ):
      rows = self._validation.__getitems__([int(i) for i in index])
      yield {**self._stack(rows), "weight": weight}


@functools.lru_cache(maxsize=4)
def _order(size: int, seed: int) -> Any:
  """An endless order over `size` examples, by random access."""
  import grain  # Late: Grain starts slowly.

  return grain.MapDataset.range(size).seed(seed).shuffle().repeat()


def _images(tfds_name, splits, constants, size=None):
  """The factory of a set of images."""
  name = tfds_name.partition("/")[0]

  def make(augment: bool = False, data_dir: str | None = None) -> NamedImages:
    return NamedImages(
      name,
      tfds_name,
      splits,
      constants,
      size=size,
      augment=augment,
      data_dir=data_dir,
    )

  make.__doc__ = f"""The TFDS set {tfds_name!r}.

    Args:
      augment: random crops (padding 4) and mirror images in training.
      data_dir: TFDS's folder of prepared sets; None is TFDS's default.

    Raises:
      DataError: it is not prepared there; the message says what to run.
    """
  return make


_TRAIN_TEST = ("train", "test")
mnist = _images("mnist", _TRAIN_TEST, _MNIST)
fashion_mnist = _images("fashion_mnist", _TRAIN_TEST, _FASHION)
cifar10 = _images("cifar10", _TRAIN_TEST, _CIFAR10)
cifar100 = _images("cifar100", _TRAIN_TEST, _CIFAR100)
imagenet2012 = _images(
  "imagenet2012", ("train", "validation"), _IMAGENET, size=224
)


def cifar10_corrupted(
  corruption: str = "gaussian_noise_1",
  augment: bool = False,
  data_dir: str | None = None,
) -> NamedImages:
  """CIFAR-10 to train on, CIFAR-10-C to evaluate on: arXiv:1903.12261.

  Args:
    corruption: "<kind>_<severity 1 to 5>", as TFDS names its configs.
    augment: random crops and mirror images in training.
    data_dir: TFDS's folder of prepared sets; None is TFDS's default.
  """
  clean = cifar10(augment=augment, data_dir=data_dir)
  corrupted = tfds_source.prepared(f"cifar10_corrupted/{corruption}", data_dir)
  clean.name = "cifar10_corrupted"
  clean._validation = tfds_source.source(corrupted, "test")
  clean.provenance = {
    "train": clean.provenance,
    "validation": tfds_source.provenance(corrupted, ("test",)),
  }
  return clean


def _text(tfds_name, splits):
  """The factory of a set of text."""
  name = tfds_name.partition("/")[0]

  def make(
    sequence_length: int = 256,
    tokenizer: str = "bytes",
    vocab_size: int = 256,
    train_documents: int = 20_000,
    validation_documents: int = 2_000,
    data_dir: str | None = None,
  ) -> Any:
    builder = tfds_source.prepared(tfds_name, data_dir)
    limits = (train_documents, validation_documents)
    text = {}
    for role, split, limit in zip(
      ("train", "validation"), splits, limits, strict=True
    ):
      dataset.check_at_least(name, f"{role}_documents", limit, 1)
      source = tfds_source.source(builder, split)
      rows = source.__getitems__(list(range(min(limit, len(source)))))
      # A NUL byte parts documents; UTF-8 text has none.
      text[role] = np.frombuffer(
        b"\0".join(bytes(row["text"]) for row in rows), np.uint8
      )
    return embedded.token_stream(
      name,
      text,
      sequence_length,
      tokenizer,
      vocab_size,
      tfds_source.provenance(builder, splits),
    )

  make.__doc__ = f"""The first documents of the TFDS set {tfds_name!r}.

    They are read into memory as one stream, in the order of the files.

    Args:
      sequence_length: tokens of a window.
      tokenizer: "bytes" or "bpe".
      vocab_size: 256 for bytes, more for "bpe".
      train_documents: how many documents to train on.
      validation_documents: how many to evaluate on.
      data_dir: TFDS's folder of prepared sets; None is TFDS's default.

    Raises:
      DataError: it is not prepared there; the message says what to run.
    """
  return make


c4 = _text("c4/en", ("train", "validation"))
wiki40b = _text("wiki40b/en", ("train", "validation"))
lm1b = _text("lm1b", ("train", "test"))
