"""Size and speed of a program, before a run is paid for."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from normjax import build, configure
from normjax.data import specs
from normjax.train import compiled as compiled_lib
from normjax.train import program as program_lib
from normjax.train.state import State


def estimate(config: configure.ConfigDict) -> dict[str, float]:
  """Size and speed of a program, from compiling it and timing three steps.

  Returns:
    What `Program.sizes` says, `peak_bytes` (arguments,
    temporaries and outputs of a step, as the compiler reports them),
    `flops_per_step` (the compiler's count), both of one of `num_devices`;
    `compile_s` and, where the data is there, `step_s` (median of three).
  """
  program, _ = program_lib.get(config)
  is_there = not specs.is_spec(build.dataset(config))
  timed = {"step_s": step_s(program, config)} if is_there else {}
  cost = program.step.cost_analysis() or {}
  return {
    **program.sizes(program.abstract_state),
    "num_devices": program.layout.mesh.size,
    "peak_bytes": compiled_lib.peak_bytes(program.step),
    "flops_per_step": cost.get("flops", float("nan")),
    **timed,
    "compile_s": program.compile_s,
  }


def step_s(
  program: compiled_lib.Program, config: configure.ConfigDict
) -> float:
  """Seconds of a step on a config's first batch; see `median_s`."""
  dataset = build.dataset(config)
  hyper = program.layout.put_scalars(build.hyper(config))
  batch = program.layout.put_batch(
    dataset.train_batch(config.seed, 0, config.train.batch_size)
  )
  return median_s(
    lambda state: program.step(state, batch, hyper),
    program.initialize(hyper, batch),
  )


def median_s(step: Callable[[State], tuple[State, Any]], state: State) -> float:
  """Seconds of a step, the median of three behind a first one.

  Args:
    step: donates the state that it is given.
    state: to begin with.
  """
  times_s = []
  for _ in range(4):
    start_s = time.perf_counter()
    state, metrics = step(state)
    jax.block_until_ready((state, metrics))
    times_s.append(time.perf_counter() - start_s)
  return float(np.median(times_s[1:]))
