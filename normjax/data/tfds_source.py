"""Random access to sets that TFDS has prepared, without TensorFlow."""

import importlib
from typing import Any

from normjax import errors


def prepared(name: str, data_dir: str | None) -> Any:
  """The TFDS builder of a set that is on disk.

  Args:
    name: "name" or "name/config".
    data_dir: TFDS's; None is TFDS's default (`TFDS_DATA_DIR`, else
      `~/tensorflow_datasets`).

  Raises:
    DataError: TFDS does not know it, or it is not prepared.
  """
  import tensorflow_datasets as tfds

  # TFDS registers its text sets in a loop that stops silently at the first
  # failed import; asked for alone, the package says what is missing.
  importlib.import_module("tensorflow_datasets.text")
  try:
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  except (tfds.core.DatasetNotFoundError, ValueError) as error:
    reason = str(error).splitlines()[0][:200]
    raise errors.DataError(
      f"data: TFDS does not give {name!r}: {reason}"
    ) from error
  # Asking first: TFDS would try to download, and wait minutes for a network.
  if not builder.is_prepared():
    manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    raise errors.DataError(
      f"data {name!r} is not prepared in {builder.data_dir}. On a machine with"
      " a network and TensorFlow run\n"
      f"  tfds build {name} --file_format=array_record"
      f" --data_dir={builder._data_dir_root}\n"
      "and copy that folder here, or set data.data_dir (or TFDS_DATA_DIR) to"
      " where it is."
      + (f"\nFirst, by hand: {manual.strip()}" if manual else "")
    )
  return builder


def source(builder: Any, split: str) -> Any:
  """Random access to a split: `len`, `[i]`, `__getitems__`.

  Raises:
    DataError: there is no such split.
  """
  splits = list(builder.info.splits)
  if split not in splits:
    raise errors.DataError(
      f"data {builder.info.full_name!r} has no split {split!r};"
      f" splits: {', '.join(splits)}."
    )
  return builder.as_data_source(split)


def provenance(builder: Any, splits: tuple[str, ...]) -> dict[str, Any]:
  """What `run.json` says of a set."""
  return {
    "tfds": builder.info.full_name,
    "sizes": {
      split: builder.info.splits[split].num_examples for split in splits
    },
  }
