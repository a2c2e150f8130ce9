"""Data: batches as pure functions of (seed, step), without TensorFlow.

dataset = data.make("shakespeare", sequence_length=64)
batch = dataset.train_batch(seed=0, step=7, batch_size=16)
"""

from collections.abc import Mapping
from typing import Any

from normjax.data.cache import cache_dir
from normjax.data.missing import or_spec, shapes_suffice
from normjax.registry import Registry

_EMBEDDED = "normjax.data.embedded"
_NAMED = "normjax.data.named"
TABLE = {
  "shakespeare": "normjax.data.shakespeare:shakespeare",
  "mnist_5k": f"{_EMBEDDED}:mnist_5k",
  "digits": f"{_EMBEDDED}:digits",
  "letters": f"{_EMBEDDED}:letters",
  "breast_cancer": f"{_EMBEDDED}:breast_cancer",
  "wine": f"{_EMBEDDED}:wine",
  "iris": f"{_EMBEDDED}:iris",
  "diabetes": f"{_EMBEDDED}:diabetes",
  "synthetic": "normjax.data.synthetic:synthetic",
  "image_folder": "normjax.data.image_folder:image_folder",
  "arrays": "normjax.data.arrays:arrays",
  "text_files": "normjax.data.text_files:text_files",
  "mnist": f"{_NAMED}:mnist",
  "fashion_mnist": f"{_NAMED}:fashion_mnist",
  "cifar10": f"{_NAMED}:cifar10",
  "cifar100": f"{_NAMED}:cifar100",
  "cifar10_corrupted": f"{_NAMED}:cifar10_corrupted",
  "imagenet2012": f"{_NAMED}:imagenet2012",
  "c4": f"{_NAMED}_text:c4",
  "wiki40b": f"{_NAMED}_text:wiki40b",
  "lm1b": f"{_NAMED}_text:lm1b",
}
_REGISTRY = Registry("data", TABLE, from_outside=True)
names = _REGISTRY.names
make = _REGISTRY.make


def spec(name: str, **options: Any) -> Any:
  """What a data set gives, without its files where TFDS knows it.

  Batch shapes, `reads`, `targets`, `model_options` and the splits: all that a
  model is built from and a program compiled by. A set that comes inside a
  package, or one's own, is opened to tell.

  Args:
    name: as for `make`.
    **options: as for `make`.

  Returns:
    A `normjax.data.specs.Spec`.

  Raises:
    UserError: what `make` raises, but for files of TFDS that are not there.
  """
  from normjax.data import specs  # Late: imports jax.

  factory = _REGISTRY.get(name)
  if name in TABLE and hasattr(factory, "spec"):
    return _REGISTRY.call(name, factory.spec, **options)
  return specs.of_dataset(make(name, **options))


# Drawn anew for each split.
_ALWAYS_TUNES = frozenset({"synthetic"})
# Options that keep a part to make choices on, where they are not 0 or empty.
_TUNING_OPTIONS = ("tuning_split", "tuning_fraction", "num_folds")


def has_tuning_split(block: Mapping[str, Any]) -> bool:
  """Whether data keeps a part to make choices on, by its options alone.

  Nothing is imported or opened. One's own set has such a part where an option
  of one of these names says so; then its `on_split("tuning")` is called.

  Args:
    block: `data` of a resolved config: "name" and options.
  """
  return block["name"] in _ALWAYS_TUNES or any(
    block.get(option) for option in _TUNING_OPTIONS
  )


__all__ = [
  "TABLE",
  "cache_dir",
  "has_tuning_split",
  "make",
  "names",
  "or_spec",
  "shapes_suffice",
  "spec",
]
