"""The optimizers' kernels, compiled: bytes, spills, memory, collectives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels_pallas import (
  adam_8bit_update,
  aot,
  lion_8bit_update,
  momentum_8bit_update,
  sinkhorn,
)

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    bool(aot.missing("h200")), reason=str(aot.missing("h200"))
  ),
]


STEPS = {
  "adam": (adam_8bit_update.adam_8bit_update, 2, 8),
  "lion": (lion_8bit_update.lion_8bit_update, 1, 5),
  "momentum": (momentum_8bit_update.momentum_8bit_update, 1, 4),
}


def step(function):
  def run(w, state, g, scalars):
    return function(w, g, *state, scalars, impl="mosaic_gpu")

  return run


def arguments(rows, width, moments, numbers):
  """Of a leaf: parameter, state, gradient, numbers of the step."""
  w = jax.ShapeDtypeStruct((rows, width), jnp.float32)
  codes = jax.ShapeDtypeStruct((rows, width), jnp.uint8)
  absmax = jax.ShapeDtypeStruct((rows, -(-width // 256)), jnp.float32)
  scalars = jax.ShapeDtypeStruct((numbers,), jnp.float32)
  return w, (codes, absmax) * moments, w, scalars


def ideal_bytes(rows, width, moments):
  """Of what is read and, but for the gradient, written."""
  return rows * (12 * width + moments * (2 * width + 8 * -(-width // 256)))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("width", [512, 1368])
def test_a_step_is_in_place(name, width):
  function, moments, numbers = STEPS[name]
  compiled = aot.compile(
    step(function),
    *arguments(512, width, moments, numbers),
    target="h200",
    donate=(0, 1),
  )
  # Besides: a number per block for the sum of the squares, written and read.
  assert compiled.bytes <= 1.005 * ideal_bytes(512, width, moments)
  # The others make the decay and that sum, of scalars and of those numbers.
  assert compiled.kernels <= 4
  assert compiled.temporary_bytes < 512 * 4 * 8
  assert compiled.spilled_bytes == 0


def test_each_device_steps_its_own_rows():
  mesh = Mesh(np.array(aot.described("h200", 4)), ("data",))
  function, *sizes = STEPS["adam"]
  *cut, scalars = arguments(2048, 512, *sizes)
  rows, whole = P("data"), P()
  run = jax.shard_map(
    lambda *given: step(function)(*given)[:-1],
    mesh=mesh,
    in_specs=(rows, rows, rows, whole),
    out_specs=rows,
    check_vma=False,
  )
  placed = [
    jax.tree.map(
      lambda x, spec=spec: x.update(sharding=NamedSharding(mesh, spec)), tree
    )
    for tree, spec in [*((tree, rows) for tree in cut), (scalars, whole)]
  ]
  compiled = aot.compile(run, *placed, target="h200", devices=4, donate=(0, 1))
  assert compiled.bytes <= 1.005 * ideal_bytes(512, 512, 2)
  for collective in ("all-gather", "all-reduce", "permute", "all-to-all"):
    assert collective not in compiled.text


@pytest.mark.parametrize("shape", [(1, 1024, 2048), (3, 512, 1368)])
def test_sinkhorn_reads_once_per_round(shape):
  compiled = aot.compile(
    lambda x: sinkhorn.sinkhorn(x, 5, impl="mosaic_gpu"),
    jax.ShapeDtypeStruct(shape, jnp.float32),
    target="h200",
  )
  # The largest entry, the first sums, five rounds, the result: 9, and the sums
  # of the blocks of threads.
  assert compiled.bytes <= 10 * 4 * math.prod(shape)
  assert compiled.spilled_bytes == 0
