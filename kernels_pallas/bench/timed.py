"""What the ops take on this machine's device, beside a copy.

On a GPU the time is that of its kernels, as the profiler has it; elsewhere
calls in a row are timed by the clock. Inputs take turns, so that none is found
in a cache. Nothing here has run on a GPU yet: the reader of the profile is
tested on records of the kind that it expects.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels_pallas import dispatch
from kernels_pallas.bench import passes, peers
from kernels_pallas.specs import ArgumentSpec

COLUMNS = (
  "op", "arguments", "impl", "pass", "µs", "GB/s", "% of a copy",
  "time, xla / this", "clock",
)  # fmt: skip
# Several times the last cache of the chips known here.
_ROTATED_BYTES = 2**28
_MOST_SETS = 64
_COPIED_BYTES = 2**29
# What others are held against.
_YARDSTICK = "xla"


def values(tree: Any, seed: int) -> Any:
  """Arrays of these shapes: normal, or any of an integer type."""
  flat, structure = jax.tree.flatten(tree)
  rng = np.random.default_rng(seed)

  def draw(leaf):
    if jnp.issubdtype(leaf.dtype, jnp.integer):
      info = jnp.iinfo(leaf.dtype)
      drawn = rng.integers(info.min, info.max, leaf.shape, endpoint=True)
      return jnp.asarray(drawn.astype(leaf.dtype))
    return jnp.asarray(rng.standard_normal(leaf.shape, np.float32), leaf.dtype)

  return structure.unflatten([draw(leaf) for leaf in flat])


class _Rotation:
  """Calls a compiled function on sets of arguments in turn."""

  def __init__(self, each: passes.Pass, sets: Sequence[tuple[Any, ...]]):
    self._donated = each.donated
    self._sets = [list(arguments) for arguments in sets]
    self._run = jax.jit(each.function, donate_argnums=each.donated)
    self._next = 0
    self(1)  # Compiles.

  def __call__(self, calls: int) -> None:
    result = None
    for _ in range(calls):
      arguments = self._sets[self._next % len(self._sets)]
      self._next += 1
      result = self._run(*arguments)
      # What was overwritten goes on as what it was overwritten with.
      for position, new in zip(
        self._donated, jax.tree.leaves(result), strict=False
      ):
        arguments[position] = new
    jax.block_until_ready(result)


def busy_s(planes: Iterable[Any], calls: int) -> list[float] | None:
  """Seconds of each call by a profile of `calls` equal ones.

  Args:
    planes: of `jax.profiler.ProfileData`.
    calls: that were profiled.

  Returns:
    None if the profile has no kernels of a GPU; the mean for all, if the
    kernels are not the same number for every call.
  """
  events = sorted(
    (event.start_ns, event.duration_ns)
    for plane in planes
    if "GPU" in plane.name
    for line in plane.lines
    if line.name.startswith("Stream")
    for event in line.events
  )
  if not events:
    return None
  durations_s = [1e-9 * duration for _, duration in events]
  count, odd = divmod(len(events), calls)
  if odd:
    return [sum(durations_s) / calls] * calls
  return [sum(durations_s[i * count : (i + 1) * count]) for i in range(calls)]


def profiled_s(run: Callable[[int], Any], calls: int) -> list[float] | None:
  """Device seconds of each call; None where the profiler sees no GPU."""
  if jax.default_backend() != "gpu":
    return None
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, profiler_options=options):
      run(calls)
    (path,) = Path(folder).rglob("*.xplane.pb")
    return busy_s(jax.profiler.ProfileData.from_file(str(path)).planes, calls)


def time_s(run: Callable[[int], None], repeats: int) -> tuple[list[float], str]:
  """Seconds of each call, and by which clock: "profiler" or "wall"."""
  seconds = profiled_s(run, repeats)
  if seconds is not None:
    return seconds, "profiler"
  found = []
  for _ in range(repeats):
    start_s = time.perf_counter()
    run(4)
    found.append((time.perf_counter() - start_s) / 4)
  return found, "wall"


def copy_bytes_per_s(repeats: int, size_bytes: int = _COPIED_BYTES) -> float:
  """Read and written by a program that changes an array's every value."""
  shape = jax.ShapeDtypeStruct((size_bytes // 4,), jnp.float32)
  each = passes.Pass("copy", lambda x: x + 1, (shape,))
  run = _Rotation(each, [(jnp.zeros(shape.shape, shape.dtype),)])
  seconds, _ = time_s(run, repeats)
  return 2 * size_bytes / statistics.median(seconds)


def _sets(
  found: Sequence[passes.Pass], each: passes.Pass, rotated_bytes: int
) -> list[tuple[Any, ...]]:
  """Arguments for the rotation; a backward pass gets what was kept."""
  first = found[0]
  count = math.ceil(rotated_bytes / passes.size_bytes(each.arguments))
  count = min(max(2, count), _MOST_SETS)
  drawn = [values(first.arguments, seed) for seed in range(count)]
  if each is first:
    return drawn
  keep = jax.jit(passes.keeping(first.function))
  dy = values(each.arguments[1], seed=len(drawn))
  return [(keep(*arguments)[2], dy) for arguments in drawn]


def of_pass(
  found: Sequence[passes.Pass],
  each: passes.Pass,
  repeats: int,
  rotated_bytes: int = _ROTATED_BYTES,
) -> tuple[list[float], str]:
  """`time_s` of a pass, compiled anew, among those of its function."""
  return time_s(_Rotation(each, _sets(found, each, rotated_bytes)), repeats)


def measure(
  name: str,
  spec: ArgumentSpec,
  implementations: Sequence[str],
  repeats: int,
  copy_rate: float,
  rotated_bytes: int = _ROTATED_BYTES,
) -> Iterator[dict[str, Any]]:
  """A record for each implementation and pass, or one with the reason.

  Args:
    name: of the op.
    spec: its arguments.
    implementations: by name, peers too; the yardstick is measured first if
      among them.
    repeats: calls that are timed.
    copy_rate: bytes per second of a copy, in this run.
    rotated_bytes: that the arguments of the calls in turn have together.
  """
  yardstick_s: dict[str, float] = {}

  def record(impl, which, seconds, clock):
    median_s = statistics.median(seconds)
    if impl == _YARDSTICK:
      yardstick_s[which] = median_s
    rate = passes.ideal_bytes(spec, which) / median_s
    than_s = yardstick_s.get(which)
    return {
      "op": name,
      "spec": spec.name,
      "impl": impl,
      "pass": which,
      "clock": clock,
      "seconds": seconds,
      "median_s": median_s,
      "bytes_per_s": rate,
      "of_copy": rate / copy_rate,
      "yardstick_over_this": than_s and than_s / median_s,
    }

  for impl in sorted(implementations, key=lambda impl: impl != _YARDSTICK):
    try:
      if impl == "torch":
        _refuse(peers.missing(impl, spec))
        for each in peers.torch_times(name, spec, repeats, rotated_bytes):
          yield record(impl, *each)
        continue
      found = _passes(name, spec, impl)
    except dispatch.UnsupportedError as error:
      yield {"op": name, "spec": spec.name, "impl": impl, "error": str(error)}
      continue
    for each in found:
      seconds, clock = of_pass(found, each, repeats, rotated_bytes)
      yield record(impl, each.name, seconds, clock)


def _passes(name: str, spec: ArgumentSpec, impl: str) -> list[passes.Pass]:
  """Of an implementation of ours, or of tokamax."""
  if impl not in peers.NAMES:
    return passes.of_op(name, spec, impl)
  _refuse(peers.missing(impl, spec))
  return peers.tokamax(name, spec)


def _refuse(reason: str | None) -> None:
  if reason is not None:
    raise dispatch.UnsupportedError(reason)


def row(record: Mapping[str, Any]) -> Sequence[str]:
  """The cells of a record that has no error."""
  ratio = record["yardstick_over_this"]
  return (
    record["op"],
    record["spec"],
    record["impl"],
    record["pass"],
    f"{1e6 * record['median_s']:.1f}",
    f"{record['bytes_per_s'] / 1e9:.0f}",
    f"{100 * record['of_copy']:.0f}",
    "" if ratio is None else f"{ratio:.2f}",
    record["clock"],
  )
