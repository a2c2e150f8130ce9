"""Random access to sets that TFDS has prepared, without TensorFlow."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from normjax import errors
from normjax.registry import near_misses

# What TFDS cannot download by itself.
_BY_HAND = {
  "imagenet2012": "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar"
  " (https://image-net.org/download-images)",
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps TFDS's own warning about a missing folder out of our message."""
  from absl import logging

  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def known(name: str, data_dir: str | None) -> Any:
  """The TFDS builder of a set, whose files need not be there.

  Args:
    name: "name" or "name/config".
    data_dir: TFDS's; None is TFDS's default (`TFDS_DATA_DIR`, else
      `~/tensorflow_datasets`).

  Raises:
    DataError: TFDS does not know it.
  """
  import tensorflow_datasets as tfds

  # TFDS registers its text sets in a loop that stops silently at the first
  # failed import; asked for alone, the package says what is missing.
  importlib.import_module("tensorflow_datasets.text")
  set_name, _, config = name.partition("/")
  configs = tfds.builder_cls(set_name).builder_configs
  if config and config not in configs:
    raise errors.DataError(
      f"data: TFDS's {set_name!r} has no config {config!r}."
      f"{near_misses(config, configs)}"
    )
  with _quiet():
    return tfds.builder(name, data_dir=data_dir)


def check_prepared(name: str, builder: Any) -> None:
  """Checks that the files of a set are there.

  Args:
    name: see `known`.
    builder: that it gave.

  Raises:
    MissingDataError: they are not; the message says what to run.
    DataError: they are, but not as array_record.
  """
  with _quiet():
    is_prepared = builder.is_prepared()
  root = builder._data_dir_root
  build = f"  tfds build {name} --file_format=array_record --data_dir="
  # Asking first: TFDS would try to download, and wait minutes for a network.
  if not is_prepared:
    by_hand = _BY_HAND.get(name)
    raise errors.MissingDataError(
      f"data {name!r} is not prepared: there is no {builder.data_dir}."
      " On a machine with a network and TensorFlow"
      + (f" put {by_hand} into {root}/downloads/manual and" if by_hand else "")
      + f" run\n{build}{root}\nand copy that folder here, or set data.data_dir"
      " (or TFDS_DATA_DIR) to where it is."
    )
  formats = {f.value for f in builder.info.available_file_formats()}
  if not formats & {"array_record", "parquet"}:
    raise errors.DataError(
      f"data {name!r} in {builder.data_dir} is stored as"
      f" {', '.join(sorted(formats))}, which has no random access. Where there"
      f" is TensorFlow, prepare it in another folder:\n{build}NEW_FOLDER\n"
      "and set data.data_dir to that."
    )


def source(builder: Any, split: str) -> Any:
  """Random access to a split: `len`, `[i]`, `__getitems__`.

  Args:
    builder: of a prepared set.
    split: a name or a part of it, such as "train" or "train[:90%]".

  Raises:
    DataError: there is no such split, or nothing in it.
  """
  splits = dict(builder.info.splits)
  name = split.partition("[")[0]
  if name not in splits:
    raise errors.DataError(
      f"data {builder.info.full_name!r} has no split {name!r}."
      f"{near_misses(name, splits)} Splits: {', '.join(splits)}."
    )
  try:
    if not builder.info.splits[split].num_examples:
      raise errors.DataError(
        f"data {builder.info.full_name!r}: split {split!r} has no example."
      )
    return builder.as_data_source(split)
  except ValueError as error:
    raise errors.DataError(
      f"data {builder.info.full_name!r}: cannot read split {split!r}: {error}"
    ) from error


def provenance(builder: Any, rows: Any) -> dict[str, Any]:
  """What `run.json` says of a split: name and version, size."""
  return {
    "tfds": builder.info.full_name,
    "split": rows.split,
    "examples": len(rows),
  }
