"""Whether a program's runs are faster side by side: timed, and written down.

A sweep asks once per program. Its folder keeps the answer, so that all its
runs train in one mode, whoever resumes it and however busy a machine is then.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from normjax import build, faults
from normjax.record import choices
from normjax.train import cost
from normjax.train.population import chunks
from normjax.train.population import together as together_lib
from normjax.train.request import Run

_LOG = logging.getLogger(__name__)


def members(runs: Sequence[Run], most: int, out: Path) -> int:
  """Members of a population that these runs may have; 1: each by itself.

  Args:
    runs: of one program.
    most: at most so many.
    out: of the sweep; keeps the choice.
  """
  key = build.program_key(runs[0].config)
  found: Mapping[str, Any] | None = choices.read(out, key)
  if found is None:
    if len(runs) == 1:
      return 1  # Nothing is side by side; the next ones may tell.
    choices.write(out, key, _made(runs, most))
    found = choices.read(out, key)
    _LOG.info("population: %s", found)
  return most if found and found["together"] else 1


def _made(runs: Sequence[Run], most: int) -> dict[str, Any]:
  """The choice; each by itself where memory does not last for the timing."""
  try:
    return _timed(runs, most)
  except Exception as error:
    if not faults.is_memory(error):
      raise
    _LOG.warning("population: %s", faults.one_line(error))
    return _alone("memory")


def _alone(why: str) -> dict[str, Any]:
  device = jax.local_devices()[0].device_kind
  return {"together": False, "device": device, "why": why}


def _timed(runs: Sequence[Run], most: int) -> dict[str, Any]:
  """The choice, and what it was made by."""
  config = runs[0].config
  together = together_lib.get(config)
  program = together.program
  if program.layout.mesh.size > 1:
    return _alone("several devices")
  chunk = chunks.new(together, runs, most, together_lib.limit_bytes())[0]
  size = chunk.size
  if size == 1:
    return _alone("memory")
  alone_s = size * cost.step_s(program, config)
  together_s = _step_s(together, chunk)
  return {
    "together": together_s < alone_s,
    "device": jax.local_devices()[0].device_kind,
    "members": size,
    "alone_s": alone_s,
    "together_s": together_s,
  }


def _step_s(together: together_lib.Together, chunk: chunks.Chunk) -> float:
  """Seconds of a step of a population, all of whose members are the first."""
  config, size = chunk.runs[0].config, chunk.size
  kinds = {
    "same_batches": chunk.same_batches,
    "same_evaluation": together_lib.evaluates_alike(config),
  }
  compiled = together.get(size, **kinds)
  batch = build.dataset(config).train_batch(
    config.seed, 0, config.train.batch_size
  )
  batch, hyper = dict(batch), build.hyper(config)
  layout = together.program.layout
  state = together.program.initialize(
    layout.put_scalars(hyper), layout.put_batch(batch)
  )

  def repeated(tree, single):
    return {
      name: np.asarray(x)
      if name in single
      else np.stack([np.asarray(x)] * size)
      for name, x in tree.items()
    }

  given = together.put(
    (
      repeated(batch, batch if chunk.same_batches else ()),
      repeated(hyper, together.shared.scalars),
      np.ones(size, bool),
    )
  )
  return cost.median_s(
    lambda state: compiled.step(state, *given),
    together.stack([state] * size, state),
  )
