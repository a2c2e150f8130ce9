"""Arrays of one's own: an .npz file, or a folder of .npy files."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from normjax import configure, errors, validate
from normjax.data import (
  array_checks,
  array_domains,
  array_files,
  dataset,
  examples,
  files,
  folds,
  splits,
)

_SCALINGS = (*dataset.SCALINGS, "none")
_KINDS = ("", "classes", "values")


def arrays(
  path: str | None = None,
  inputs: str = "x",
  targets: str = "y",
  validation_inputs: str = "",
  validation_targets: str = "",
  test_inputs: str = "",
  test_targets: str = "",
  domains: str = "",
  validation_domains: str = "",
  test_domains: str = "",
  targets_are: str = "",
  num_classes: int = 0,
  scaling: str = "standardize",
  standardize_targets: bool = True,
  augment: bool = False,
  mirror: bool = True,
  validation_fraction: float = 0.1,
  test_fraction: float = 0.0,
  tuning_fraction: float = 0.1,
  num_folds: int = 0,
  on_bad_file: str = "refuse",
) -> examples.Examples:
  """Features or images, and classes or values, from NumPy's files.

  Inputs (n, d) are features; (n, y, x) and (n, y, x, c) are images. Targets
  (n,) of integers are classes, floats (n,) or (n, d) are values to predict.
  A split that is not given is drawn by a hash of each row's number: rows
  that are added at the end do not move the others.

  Args:
    path: an .npz file, or a folder of .npy files, which are memory-mapped;
      relative to the current folder.
    inputs: the key in the .npz, or the name of the file without .npy.
    targets: likewise.
    validation_inputs: likewise; empty draws the validation split.
    validation_targets: goes with it.
    test_inputs: likewise; empty draws the test split.
    test_targets: goes with it.
    domains: likewise, integers (n,) from 0: which domain each row is from, for
      norms and methods that ask; empty says none. Splits that are given then
      need theirs.
    validation_domains: see `domains`.
    test_domains: see `domains`.
    targets_are: "classes" or "values"; empty goes by their type.
    num_classes: 0 takes the largest label and one.
    scaling: "standardize", to mean 0 and deviation 1 of the training rows, per
      feature, or of all pixels; "unit", pixels over white; or "none".
    standardize_targets: values likewise, per column: a loss of 1 is then that
      of their mean.
    augment: whether training images are shifted by up to 4 pixels.
    mirror: whether they are also mirrored, half of the time.
    validation_fraction: of the rows; not used where they are given.
    test_fraction: likewise.
    tuning_fraction: of the rows, to make choices on; never trained on.
    num_folds: above 0, the run's seed says which part of so many validates, and
      the next one tunes (`normjax.data.folds`), in place of these fractions.
    on_bad_file: "refuse" or "skip": of rows that are not finite, or whose
      label is out of range.

  Raises:
    UserError: an option out of range.
    DataError: no such file or array, other shapes or types, or bad rows.
  """
  name = "arrays"
  validate.choice(name, "scaling", scaling, _SCALINGS)
  validate.choice(name, "targets_are", targets_are, _KINDS)
  validate.flags(name, augment=augment, mirror=mirror)
  validate.flags(name, standardize_targets=standardize_targets)
  validate.count(name, "num_classes", num_classes, 0)
  fractions = splits.Fractions(
    test_fraction, validation_fraction, tuning_fraction
  )
  fractions.check(name)
  if num_folds and (validation_inputs or validation_targets):
    validate.refuse(name, "num_folds", num_folds, "0 with validation_inputs")
  bad = files.BadFiles(name, on_bad_file)
  opened = array_files.Opened(files.given_path("path", path))
  asked = {
    splits.TRAIN: (inputs, targets),
    splits.VALIDATION: (validation_inputs, validation_targets),
    splits.TEST: (test_inputs, test_targets),
  }
  pairs = _read(opened, asked, targets_are)
  array_checks.check_alike(pairs)
  ids = array_domains.read(
    opened,
    pairs,
    {
      splits.TRAIN: domains,
      splits.VALIDATION: validation_domains,
      splits.TEST: test_domains,
    },
  )
  whole = pairs[splits.TRAIN]
  kind, reads = whole.kind, whole.reads
  if scaling == "unit" and reads != "images":
    validate.refuse(
      name, "scaling", scaling, "'standardize', 'none' of features"
    )
  if augment and reads != "images":
    validate.refuse(name, "augment", augment, "False, of features")

  folds.check(name, num_folds, len(whole.inputs))
  print_of = files.fingerprint(opened.root, opened.files)
  asked_for = [asked, num_classes, kind, scaling, standardize_targets]
  draws = [
    folds.Draw(fractions.without(pairs), num_folds, fold)
    for fold in range(max(num_folds, 1))
  ]
  every = [
    files.kept_facts(
      f"arrays/{configure.digest([*print_of, asked_for, draw])}",
      functools.partial(_measured, pairs, num_classes, draw),
    )
    for draw in draws
  ]
  for split, rows in every[0]["bad"].items():
    for row, why in rows:
      bad.add(f"{pairs[split].names[0]} row {row}", why)
  bad.settle(opened.path, sum(len(p.inputs) for p in pairs.values()), "rows")
  rescales = kind == "values" and standardize_targets

  def made(draw: folds.Draw, facts: Mapping[str, Any]) -> examples.Examples:
    rows = _rows(pairs, facts["bad"], draw)
    parts = _parts(pairs, rows)
    for split in (splits.TRAIN, splits.VALIDATION):
      if not len(parts[split][0]):
        raise errors.DataError(
          f"{draw.option}: of {len(whole.inputs)} rows of {opened.path} none"
          f" is in the {split} split; allowed: a larger share, or"
          " validation_inputs and validation_targets."
        )
    mean, deviation = _constants(whole, facts, scaling)
    return examples.Examples(
      name=name,
      train=parts[splits.TRAIN],
      validation=parts[splits.VALIDATION],
      tuning=parts[splits.TUNING] if len(parts[splits.TUNING][0]) else None,
      test=parts[splits.TEST] if len(parts[splits.TEST][0]) else None,
      num_classes=_num_outputs(parts, whole, num_classes),
      mean=mean,
      deviation=deviation,
      reads=reads,
      white=_white(whole.inputs.dtype),
      targets=kind,
      target_mean=np.asarray(facts["target_mean"]) if rescales else 0.0,
      target_deviation=_nonzero(facts["target_deviation"]) if rescales else 1.0,
      shifted=augment,
      mirror=mirror,
      notes=tuple(bad.notes()),
      domain_ids=ids
      and {s: ids[source][own] for s, (source, own) in rows.items()},
      provenance={
        "path": str(opened.path.resolve()),
        **print_of.provenance(),
        "sizes": {split: len(part[0]) for split, part in parts.items()},
        "targets": _said_of_targets(facts, rescales),
        "skipped": bad.provenance(),
      },
    )

  of_fold = tuple(map(made, draws, every))
  return folds.joined(of_fold) if num_folds else of_fold[0]


def _read(
  opened: array_files.Opened,
  asked: Mapping[str, tuple[str, str]],
  targets_are: str,
) -> dict[str, array_checks.Pair]:
  """The inputs and targets of each split that is given."""
  pairs = {}
  for split, names in asked.items():
    if split != splits.TRAIN and not any(names):
      continue
    prefix = "" if split == splits.TRAIN else f"{split}_"
    options = f"{prefix}inputs", f"{prefix}targets"
    pairs[split] = array_checks.Pair.of(
      [opened.read(o, name) for o, name in zip(options, names, strict=True)],
      [f"{o}={name!r}" for o, name in zip(options, names, strict=True)],
      targets_are,
    )
  return pairs


def _rows(
  pairs: Mapping[str, array_checks.Pair],
  bad: Mapping[str, Any],
  draw: folds.Draw,
) -> dict[str, tuple[str, np.ndarray]]:
  """Split -> whose rows it has, and which of them are used."""
  found = {}
  for split, drawn_rows in draw.rows(len(pairs[splits.TRAIN].inputs)).items():
    is_given = split in pairs and split != splits.TRAIN
    source = split if is_given else splits.TRAIN
    rows = np.arange(len(pairs[source].inputs)) if is_given else drawn_rows
    rows = rows[~np.isin(rows, [row for row, _ in bad[source]])]
    found[split] = source, rows
  return found


def _parts(
  pairs: Mapping[str, array_checks.Pair],
  rows: Mapping[str, tuple[str, np.ndarray]],
) -> dict[str, tuple[Any, np.ndarray]]:
  """Split -> inputs and targets of `_rows`."""
  return {
    split: (
      examples.Rows(pairs[source].inputs, own),
      pairs[source].targets[own],
    )
    for split, (source, own) in rows.items()
  }


def _measured(
  pairs: Mapping[str, array_checks.Pair],
  num_classes: int,
  draw: folds.Draw,
) -> dict[str, Any]:
  """What is found by reading all rows: bad ones, means and deviations."""
  bad = {
    split: array_checks.bad_rows(pair, num_classes)
    for split, pair in pairs.items()
  }
  inputs, targets = _parts(pairs, _rows(pairs, bad, draw))[splits.TRAIN]
  found: dict[str, Any] = {"bad": bad}
  whole = pairs[splits.TRAIN]
  if len(inputs):
    mean, deviation = array_checks.moments(inputs, whole.reads == "features")
    found |= {"mean": mean.tolist(), "deviation": deviation.tolist()}
    mean, deviation = array_checks.moments(targets, per_column=True)
    found |= {
      "target_mean": mean.tolist(),
      "target_deviation": deviation.tolist(),
    }
  return found


def _constants(
  whole: array_checks.Pair, facts: Mapping[str, Any], scaling: str
) -> tuple[np.ndarray, np.ndarray]:
  """What is subtracted from the inputs, and what they are divided by."""
  if scaling == "standardize":
    return np.asarray(facts["mean"]), _nonzero(facts["deviation"])
  white = _white(whole.inputs.dtype) if scaling == "unit" else 1.0
  return np.zeros(()), np.asarray(white)


def _nonzero(deviation: Any) -> np.ndarray:
  """What is constant is left unscaled."""
  deviation = np.asarray(deviation)
  return np.where(deviation > 0, deviation, 1.0)


def _white(dtype: np.dtype) -> float:
  """The value of a white pixel."""
  if dtype.kind == "u":
    return float(np.iinfo(dtype).max)
  return 255.0 if dtype.kind == "i" else 1.0


def _num_outputs(
  parts: Mapping[str, Any], whole: array_checks.Pair, num_classes: int
) -> int:
  """How many numbers a model gives: of classes, or of a row's values.

  Raises:
    DataError: the labels name too few or too many classes to be classes.
  """
  if whole.kind == "values":
    return whole.targets.shape[1]
  labels = [labels for _, labels in parts.values() if len(labels)]
  found = num_classes or 1 + max(int(each.max()) for each in labels)
  num_rows = sum(map(len, labels))
  if found < 2 or (found > num_rows and not num_classes):
    raise errors.DataError(
      f"{whole.names[1]} has the largest label {found - 1} in {num_rows} rows;"
      " needed: labels 0, 1, … of two classes or more, as"
      " np.unique(y, return_inverse=True)[1] gives, or data.num_classes."
    )
  return found


def _said_of_targets(facts: Mapping[str, Any], rescales: bool) -> Any:
  if not rescales:
    return "as stored"
  return {
    "mean": facts["target_mean"], "deviation": facts["target_deviation"]
  }  # fmt: skip
