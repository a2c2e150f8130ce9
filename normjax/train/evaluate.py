"""Evaluation: exact weighted means over a fixed set of batches."""

import math
from collections.abc import Iterable
from typing import Any

import jax

from normjax import stopping
from normjax.data import corruptions
from normjax.train import sharding
from normjax.train.program import Program
from normjax.train.state import State

# What is kept of an evaluation on corrupted images.
_CORRUPTED = ("accuracy", "loss")


class Stopped(Exception):
  """A signal asked for the end before the last batch."""


def evaluate(
  program: Program,
  state: State,
  dataset: Any,
  *,
  batch_size: int,
  num_batches: int,
) -> dict[str, float]:
  """Means over the validation examples.

  Batches are summed in float32 on the device and over batches exactly on
  the host, so that the split into batches does not matter beyond float32.

  Args:
    program: the compiled functions.
    state: evaluated with its running statistics.
    dataset: gives `evaluation_batches`.
    batch_size: the program's.
    num_batches: at most so many; 0 takes all.

  Returns:
    "loss" (nats), "accuracy", and for text "bits_per_byte".

  Raises:
    Stopped: a signal came.
  """
  shard = sharding.split_batch(program.mesh)
  batches = dataset.evaluation_batches(batch_size, num_batches or None)
  sums = []
  for batch in batches:
    if stopping.asked():
      raise Stopped
    sums.append(program.evaluate(state, jax.device_put(dict(batch), shard)))
  sums = jax.device_get(sums)
  total = math.fsum(float(s["weight"]) for s in sums)
  means = {
    name: _sum(sums, name) / total for name in sums[0] if name != "weight"
  }
  if dataset.bytes_per_token is not None:
    means["bits_per_byte"] = (
      means["loss"] / math.log(2) / dataset.bytes_per_token
    )
  return means


def names(
  sums: Iterable[str], dataset: Any, corrupted: Iterable[str]
) -> tuple[str, ...]:
  """What the last evaluation of a run will give.

  Args:
    sums: of `step.evaluation_step`.
    dataset: as in `evaluate`.
    corrupted: as in `evaluate_corrupted`.
  """
  found = [name for name in sums if name != "weight"]
  if dataset.bytes_per_token is not None:
    found.append("bits_per_byte")
  kinds = corruptions.expand(corrupted)
  if kinds:
    found += [f"{metric}/{kind}" for kind in kinds for metric in _CORRUPTED]
    found += corruptions.means(dict.fromkeys(kinds, 1.0), 1.0)
  return tuple(found)


def evaluate_corrupted(
  program: Program,
  state: State,
  dataset: Any,
  names: Iterable[str],
  clean_accuracy: float,
  *,
  batch_size: int,
  num_batches: int,
) -> dict[str, float]:
  """Means over the validation images under corruptions.

  Args:
    program: as in `evaluate`, like `state`, `batch_size` and `num_batches`.
    state: see `program`.
    dataset: its `corrupted(name)` gives `evaluation_batches`.
    names: as `corruptions.expand` takes them.
    clean_accuracy: of the same state.
    batch_size: see `program`.
    num_batches: see `program`.

  Returns:
    "accuracy/<kind>_<severity>" and "loss/..." of each, and the means of
    `corruptions.means`; nothing where there are no names.
  """
  results = {
    name: evaluate(
      program,
      state,
      dataset.corrupted(name),
      batch_size=batch_size,
      num_batches=num_batches,
    )
    for name in corruptions.expand(names)
  }
  if not results:
    return {}
  accuracy = {name: result["accuracy"] for name, result in results.items()}
  each = {
    f"{metric}/{name}": result[metric]
    for name, result in results.items()
    for metric in _CORRUPTED
  }
  return each | corruptions.means(accuracy, clean_accuracy)


def _sum(sums: list[dict[str, Any]], name: str) -> float:
  values = [float(s[name]) for s in sums]
  # fsum refuses to add infinities of both signs; a loss has one sign.
  return math.fsum(values) if all(map(math.isfinite, values)) else math.nan
