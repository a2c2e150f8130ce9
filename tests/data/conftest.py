"""Small sets in the shape of the named ones, prepared by TFDS itself."""

import numpy as np
import pytest

from normjax.data import tfds_source

NUM_CLASSES = 10
DOCUMENTS = {
  "train": [f"Document {i}: {'abc ' * (i % 9)}." for i in range(30)],
  "validation": [f"Held out {i}, né: {'xyz ' * (i % 5)}" for i in range(11)],
}


def _image(index: int, shape):
  from PIL import Image

  y, x, channels = (97 + index if side is None else side for side in shape)
  pixels = np.random.default_rng(index).integers(256, size=(y, x, channels))
  pixels = pixels.astype(np.uint8)
  return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def _rows(builder, split: str):
  """Examples with the features of a registered builder."""
  features = builder.info.features
  if "text" in features:
    for index, text in enumerate(DOCUMENTS[split]):
      yield index, {key: "" for key in features} | {"text": text}
    return
  sizes = {"train": 40, "test": 21, "validation": 21}
  shape = features["image"].shape
  for index in range(sizes[split]):
    row = {key: "" for key in features if key not in ("image", "label")}
    if "coarse_label" in features:
      row["coarse_label"] = 0
    row |= {"image": _image(index, shape), "label": index % NUM_CLASSES}
    yield index, row


def prepare(name: str, splits: dict[str, str], data_dir) -> None:
  """Prepares a small stand-in for a registered set, as array_record.

  Args:
    name: "name" or "name/config".
    splits: name of the split to what it holds.
    data_dir: TFDS's.
  """
  import tensorflow_datasets as tfds
  import tensorflow_datasets.text  # Registers the text sets.

  tfds.disable_progress_bar()
  set_name, _, config = name.partition("/")

  class Small(tfds.builder_cls(set_name), skip_registration=True):
    MANUAL_DOWNLOAD_INSTRUCTIONS = None

    def _split_generators(self, dl_manager):
      del dl_manager
      return {s: _rows(self, holds) for s, holds in splits.items()}

    def _generate_examples(self, *args):
      raise NotImplementedError

  Small.name = set_name
  builder = Small(
    data_dir=data_dir, config=config or None, file_format="array_record"
  )
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )


@pytest.fixture(scope="session")
def named_dir(tmp_path_factory):
  """A TFDS data_dir with a small stand-in for every named set."""
  folder = tmp_path_factory.mktemp("tfds")
  images = {"train": "train", "test": "test"}
  with tfds_source._quiet():
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar100"):
      prepare(name, images, folder)
    for corruption in ("fog_3", "frost_1"):
      prepare(f"cifar10_corrupted/{corruption}", {"test": "test"}, folder)
    prepare(
      "imagenet2012", {"train": "train", "validation": "validation"}, folder
    )
    text = {"train": "train", "validation": "validation"}
    prepare("c4/en", text, folder)
    prepare("wiki40b/en", text, folder)
    prepare("lm1b", {"train": "train", "test": "validation"}, folder)
  return str(folder)


def write_images(folder, classes=("cat", "dog"), count=14):
  """Noise in folders by class, every second file a JPEG."""
  from PIL import Image

  draw = np.random.default_rng(0)
  for label in classes:
    (folder / label).mkdir(parents=True, exist_ok=True)
    for index in range(count):
      pixels = draw.integers(256, size=(15 + index, 19, 3)).astype(np.uint8)
      suffix = ("png", "jpg")[index % 2]
      Image.fromarray(pixels).save(folder / label / f"{index:02}.{suffix}")


@pytest.fixture(scope="session")
def own_files(tmp_path_factory):
  """A small folder of images, arrays and text, as users have them."""
  folder = tmp_path_factory.mktemp("own")
  write_images(folder / "images")
  draw = np.random.default_rng(1)
  np.savez(
    folder / "arrays.npz",
    x=draw.integers(256, size=(60, 7, 7), dtype=np.uint8),
    y=np.arange(60) % 3,
  )
  (folder / "text").mkdir()
  for index in range(40):
    text = f"Document {index}, né: {'abc ' * (index % 9)}{index**3}."
    (folder / "text" / f"{index}.txt").write_text(text)
  return folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
  """A cache of its own."""
  folder = tmp_path / "cache"
  monkeypatch.setenv("NORMJAX_CACHE", str(folder))
  return folder


@pytest.fixture
def no_network(monkeypatch):
  """Fails a test that asks for a connection or a name."""
  import socket

  def refuse(*args, **kwargs):
    raise AssertionError(f"asked for the network: {args}")

  monkeypatch.setattr(socket.socket, "connect", refuse)
  monkeypatch.setattr(socket, "getaddrinfo", refuse)
