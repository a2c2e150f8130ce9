"""Contestants take turns, so that a slow spell of the machine hits all."""

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental.compilation_cache import compilation_cache

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


@contextlib.contextmanager
def no_compilation_cache() -> Iterator[None]:
  """Compile times are those of a program that was never compiled."""
  before = jax.config.jax_enable_compilation_cache
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()
  jax.jit(jnp.sum).lower(jnp.ones(3)).compile()  # The compiler's own start.
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


def compile_step(
  step: Callable[..., Any], *arguments: Any, donated: tuple[int, ...] = ()
) -> tuple[Callable[..., Any], dict[str, Any]]:
  """The compiled function, and the facts `compile_s`, `temp_bytes`, ….

  The time is that of tracing, lowering and compiling. `flops` are XLA's count
  of operations before it optimizes; a loop's body counts once.
  `moved_bytes` are what the compiled operations read and write.
  """
  start_s = time.perf_counter()
  # A function of its own, so that what was traced before does not count.
  fresh = jax.jit(lambda *a: step(*a), donate_argnums=donated)
  lowered = fresh.lower(*arguments)
  compiled = lowered.compile()
  facts: dict[str, Any] = {"compile_s": time.perf_counter() - start_s}
  facts["flops"] = (lowered.cost_analysis() or {}).get("flops")
  counted = compiled.cost_analysis() or {}
  facts["moved_bytes"] = counted.get("bytes accessed")
  memory = compiled.memory_analysis()
  if memory is not None:
    facts["temp_bytes"] = memory.temp_size_in_bytes
    facts["peak_bytes"] = (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes
      + memory.temp_size_in_bytes
    )
  return compiled, facts


def from_step(
  label: str,
  step: Callable[..., tuple[Any, Any]],
  state: Any,
  *arguments: Any,
) -> Contestant:
  """`state, out = step(state, *arguments)`, compiled, the state donated."""
  compiled, facts = compile_step(step, state, *arguments, donated=(0,))
  held = [state]

  def run(count: int) -> float:
    state, out = held[0], None
    start_s = time.perf_counter()
    for _ in range(count):
      state, out = compiled(state, *arguments)
    jax.block_until_ready((state, out))
    held[0] = state
    return time.perf_counter() - start_s

  jax.block_until_ready((held, arguments))
  # The step that refreshes a basis, where there is one.
  facts["first_step_s"] = run(1)
  return Contestant(label, run, facts)


def from_optax(
  label: str, tx: optax.GradientTransformation, shapes: PyTree
) -> Contestant:
  """One jitted update and apply with donated parameters and state."""

  def step(held, gradients):
    params, state = held
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), ()

  params = leaves.normal(shapes, 0, 0.02)
  gradients = leaves.normal(shapes, 1, 1e-3)
  return from_step(label, step, (params, jax.jit(tx.init)(params)), gradients)


def time_rounds(
  contestants: Sequence[Contestant], repeats: int, budget_s: float
) -> list[list[float]]:
  """Rounds of all contestants, in an order that turns from round to round.

  Args:
    contestants: who takes part.
    repeats: number of rounds.
    budget_s: seconds after which no round but the third is begun.

  Returns:
    For each contestant a step's seconds, one number per round.
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


def pair(
  ours: Contestant, rival: Contestant, repeats: int, budget_s: float
) -> dict[str, Any]:
  """Rounds of the two, in turn, as a record named after the rival."""
  return compare(ours, rival, *time_rounds([ours, rival], repeats, budget_s))


def compare(
  ours: Contestant,
  rival: Contestant,
  ours_s: list[float],
  rival_s: list[float],
) -> dict[str, Any]:
  """The record of rounds that `time_rounds` has timed."""
  ratios = [a / b for a, b in zip(ours_s, rival_s, strict=True)]
  record = {
    "name": rival.label,
    **rival.facts,
    "step_s": statistics.median(rival_s),
    "rounds_s": rival_s,
    "ours_step_s": statistics.median(ours_s),
    "ours_rounds_s": ours_s,
    "ratios": ratios,
    "ratio": statistics.median(ratios),
  }
  if "compile_s" in rival.facts:
    record["compile_ratio"] = ours.facts["compile_s"] / rival.facts["compile_s"]
  return record
