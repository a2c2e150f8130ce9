"""Contestants take turns, so that a slow spell of the machine hits all."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from normjax.bench import leaves
from normjax.types import PyTree

_FEWEST_ROUNDS = 3
_ROUND_S = 0.25


@dataclasses.dataclass
class Contestant:
  """Something whose steps can be timed.

  Attributes:
    label: its name.
    run: from a number of steps to the seconds that they took.
    facts: what was measured beside: compile_s, temp_bytes, …
  """

  label: str
  run: Callable[[int], float]
  facts: dict[str, Any]


def from_optax(
  label: str, tx: optax.GradientTransformation, shapes: PyTree
) -> Contestant:
  """One jitted update and apply with donated parameters and state."""

  def step(params, state, gradients):
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  params = leaves.normal(shapes, 0, 0.02)
  gradients = leaves.normal(shapes, 1, 1e-3)
  state = jax.jit(tx.init)(params)
  start_s = time.perf_counter()
  compiled = (
    jax.jit(step, donate_argnums=(0, 1))
    .lower(params, state, gradients)
    .compile()
  )
  compile_s = time.perf_counter() - start_s
  memory = compiled.memory_analysis()
  held = [params, state]

  def run(count: int) -> float:
    params, state = held
    start_s = time.perf_counter()
    for _ in range(count):
      params, state = compiled(params, state, gradients)
    jax.block_until_ready((params, state))
    held[:] = params, state
    return time.perf_counter() - start_s

  facts: dict[str, Any] = {"compile_s": compile_s}
  if memory is not None:
    facts["temp_bytes"] = memory.temp_size_in_bytes
    facts["peak_bytes"] = (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes
      + memory.temp_size_in_bytes
    )
  jax.block_until_ready((held, gradients))
  # The step that refreshes a basis, where there is one.
  facts["first_step_s"] = run(1)
  return Contestant(label, run, facts)


def hold(
  contestants: Sequence[Contestant], repeats: int, budget_s: float
) -> list[list[float]]:
  """Rounds of all contestants, in an order that turns from round to round.

  Args:
    contestants: who takes part.
    repeats: number of rounds.
    budget_s: seconds after which no round but the third is begun.

  Returns:
    For each contestant a step's seconds, one number a round.
  """
  counts = [
    max(1, math.ceil(_ROUND_S / max(c.run(1), 1e-6))) for c in contestants
  ]
  seconds: list[list[float]] = [[] for _ in contestants]
  start_s = time.perf_counter()
  for index in range(repeats):
    late = time.perf_counter() - start_s > budget_s
    if late and index >= _FEWEST_ROUNDS:
      break
    order = list(zip(contestants, counts, seconds, strict=True))
    for contestant, count, rounds in order if index % 2 else order[::-1]:
      rounds.append(contestant.run(count) / count)
  return seconds
