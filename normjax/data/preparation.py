"""Our own small sets as TFDS builders, prepared into the cache once.

TensorFlow is not involved: the features are tensors, the files array_record.
"""

import contextlib
import importlib.metadata
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normjax import errors
from normjax.data import cache

# Split -> examples, each a dict of arrays of the same keys and dtypes.
Splits = Mapping[str, Sequence[Mapping[str, Any]]]

_ARRAYS = "arrays.npz"


def package_files(package: str, suffix: str) -> list[Path]:
  """Files of an installed distribution, in order, without importing it.

  Raises:
    DataError: it has none.
  """
  found = [
    file
    for file in importlib.metadata.distribution(package).files or ()
    if str(file).endswith(suffix)
  ]
  if not found:
    raise errors.DataError(
      f"the installed package {package!r} has no file *{suffix};"
      f" reinstall it: pip install --force-reinstall {package}"
    )
  return [Path(str(file.locate())) for file in sorted(found, key=str)]


def load(name: str, version: str, read: Callable[[], Splits]) -> Splits:
  """The examples of a set, from the cache where they are there.

  Args:
    name: of the set.
    version: changes when `read` gives something else.
    read: the examples from their source; called to fill the cache.
  """
  folder = cache.entry(
    f"data/{name}-{version}",
    lambda draft: _prepare(draft, name, version, read()),
  )
  # The arrays stand beside the TFDS files, so that a run that only reads
  # does not pay for importing TFDS.
  with np.load(folder / _ARRAYS) as arrays:
    layout = json.loads(str(arrays["layout"]))
    return {
      split: _rows({key: _values(arrays, f"{split}/{key}") for key in keys})
      for split, keys in layout.items()
    }


def _values(arrays: Mapping[str, np.ndarray], key: str) -> list[np.ndarray]:
  """A column's values; a ragged one is flat, with its lengths beside it."""
  lengths = f"{key}/lengths"
  if lengths in arrays:
    return np.split(arrays[key], np.cumsum(arrays[lengths])[:-1])
  return list(arrays[key])


def _rows(columns: Mapping[str, list[np.ndarray]]) -> list[dict[str, Any]]:
  return [
    dict(zip(columns, values, strict=True))
    for values in zip(*columns.values(), strict=True)
  ]


def builder(name: str, version: str, folder: Path, splits: Splits | None):
  """The TFDS builder of a set.

  Args:
    name: of the set.
    version: of the set.
    folder: its TFDS data_dir.
    splits: the examples, to prepare; None to read what was prepared.
  """
  import tensorflow_datasets as tfds  # Late: half a second.

  if splits is None:
    return tfds.builder_from_directory(folder / name / version)
  example = next(iter(splits.values()))[0]

  # TFDS's own table of names stays TFDS's.
  with tfds.core.registered.skip_registration():

    class Embedded(tfds.core.GeneratorBasedBuilder):
      """A set of arrays that are in memory."""

      VERSION = tfds.core.Version(version)

      def _info(self):
        features = {
          key: tfds.features.Tensor(
            shape=(None,) if is_ragged(splits, key) else np.shape(value),
            dtype=np.asarray(value).dtype,
          )
          for key, value in example.items()
        }
        return tfds.core.DatasetInfo(
          builder=self,
          features=tfds.features.FeaturesDict(features),
          disable_shuffling=True,
        )

      def _split_generators(self, dl_manager):
        del dl_manager
        return {
          split: self._generate_examples(rows) for split, rows in splits.items()
        }

      def _generate_examples(self, rows):
        yield from enumerate(map(dict, rows))

  Embedded.name = name
  return Embedded(data_dir=folder, file_format="array_record")


def is_ragged(splits: Splits, key: str) -> bool:
  """Whether a feature's length differs between examples."""
  shapes = {np.shape(row[key]) for rows in splits.values() for row in rows}
  return len(shapes) > 1


def _prepare(draft: Path, name: str, version: str, splits: Splits) -> None:
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()
  # TFDS announces a download on standard output, though there is none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder(name, version, draft, splits).download_and_prepare()
  source = builder(name, version, draft, None).as_data_source()
  arrays: dict[str, Any] = {}
  for split, rows in splits.items():
    for key in rows[0]:
      values = [source[split][i][key] for i in range(len(rows))]
      if is_ragged(splits, key):
        arrays[f"{split}/{key}"] = np.concatenate(values)
        arrays[f"{split}/{key}/lengths"] = [len(value) for value in values]
      else:
        arrays[f"{split}/{key}"] = np.stack(values)
  layout = {split: list(rows[0]) for split, rows in splits.items()}
  np.savez(draft / _ARRAYS, layout=json.dumps(layout), **arrays)
