"""The same ops by others, in the same run: tokamax and PyTorch.

They are measured where they are installed. tokamax is called from jax, and its
passes are timed as ours are. PyTorch has its own clock: on a GPU events on its
stream, elsewhere calls in a row.
"""

import dataclasses
import importlib
import importlib.util
import itertools
import math
import time
from collections.abc import Callable, Iterator

import jax.numpy as jnp

from kernels_pallas.bench import passes
from kernels_pallas.specs import ArgumentSpec

NAMES = ("tokamax", "torch")
# Op -> whether it subtracts the mean. Of the others nobody has the like.
_NORMS = {"layer_norm": True, "rms_norm": False}


def of(op: str) -> tuple[str, ...]:
  """Who has this op."""
  return NAMES if op in _NORMS else ()


def missing(name: str, spec: ArgumentSpec) -> str | None:
  """Why a peer is not measured on a spec of an op that it has, or None."""
  if importlib.util.find_spec(name) is None:
    return f"{name} is not installed: pip install {name}"
  if spec.shapes[-1] is not None:
    return f"{name} adds no residual"
  return None


def tokamax(op: str, spec: ArgumentSpec) -> list[passes.Pass]:
  """Its passes, on the arrays of a spec."""
  library = importlib.import_module("tokamax")

  subtracts_mean = _NORMS[op]

  def run(x, scale, *rest):
    bias = rest[0] if subtracts_mean else None
    return library.layer_norm(
      x,
      scale,
      bias,
      epsilon=spec.options["eps"],
      subtract_mean=subtracts_mean,
    )

  # Their options are in `run` already.
  bare = dataclasses.replace(spec, options={})
  return passes.of_function(run, bare)


def torch_times(
  op: str, spec: ArgumentSpec, repeats: int, rotated_bytes: int
) -> Iterator[tuple[str, list[float], str]]:
  """(pass, seconds of each call, clock) of PyTorch's functions.

  Its vectors have the dtype of x, as its layers cast them.
  """
  torch = importlib.import_module("torch")

  device = "cuda" if torch.cuda.is_available() else "cpu"
  shapes = [shape for shape in spec.shapes if shape is not None]
  dtype = getattr(torch, jnp.dtype(shapes[0].dtype).name)
  width = shapes[0].shape[-1]
  function = torch.nn.functional
  norm = function.layer_norm if _NORMS[op] else function.rms_norm
  rng = torch.Generator(device=device).manual_seed(0)
  count = min(max(2, math.ceil(rotated_bytes / passes.size_bytes(shapes))), 64)

  def draw(shape):
    drawn = torch.randn(shape.shape, generator=rng, device=device)
    return drawn.to(dtype).requires_grad_()

  sets = [[draw(shape) for shape in shapes] for _ in range(count)]

  def call(values):
    x, *vectors = values
    return norm(x, (width,), *vectors, eps=spec.options["eps"])

  def forward(index):
    with torch.no_grad():
      call(sets[index % count])

  results = [call(values) for values in sets]
  dy = torch.randn_like(results[0])

  def backward(index):
    each = index % count
    torch.autograd.grad(results[each], sets[each], dy, retain_graph=True)

  clock = _by_events if device == "cuda" else _by_the_clock
  for name, run in (("forward", forward), ("backward", backward)):
    for index in range(3):
      run(index)
    yield name, *clock(run, repeats)


def _by_events(
  run: Callable[[int], None], repeats: int
) -> tuple[list[float], str]:
  torch = importlib.import_module("torch")

  def event():
    made = torch.cuda.Event(enable_timing=True)
    made.record()
    return made

  marks = [event()]
  for index in range(repeats):
    run(index)
    marks.append(event())
  torch.cuda.synchronize()
  pairs = itertools.pairwise(marks)
  return [1e-3 * a.elapsed_time(b) for a, b in pairs], "events"


def _by_the_clock(
  run: Callable[[int], None], repeats: int
) -> tuple[list[float], str]:
  seconds = []
  for index in range(repeats):
    start_s = time.perf_counter()
    run(index)
    seconds.append(time.perf_counter() - start_s)
  return seconds, "wall"
