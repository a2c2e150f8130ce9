"""The optimizers' kernels, compiled: bytes, spills, memory, collectives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels_pallas import adam_8bit_update, aot, sinkhorn

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    bool(aot.missing("h200")), reason=str(aot.missing("h200"))
  ),
]


def step(w, state, g, scalars):
  return adam_8bit_update.adam_8bit_update(
    w, g, *state, scalars, impl="mosaic_gpu"
  )


def arguments(rows, width):
  """Of a leaf: parameter, state, gradient, numbers of the step."""
  w = jax.ShapeDtypeStruct((rows, width), jnp.float32)
  codes = jax.ShapeDtypeStruct((rows, width), jnp.uint8)
  absmax = jax.ShapeDtypeStruct((rows, -(-width // 256)), jnp.float32)
  scalars = jax.ShapeDtypeStruct((7,), jnp.float32)
  return w, (codes, absmax, codes, absmax), w, scalars


@pytest.mark.parametrize("width", [512, 1368])
def test_a_step_of_8bit_adam_is_in_place(width):
  compiled = aot.compile(
    step, *arguments(512, width), target="h200", donate=(0, 1)
  )
  ideal = 512 * (16 * width + 16 * -(-width // 256))
  assert compiled.bytes <= 1.001 * ideal
  assert compiled.kernels <= 2  # The other makes the decay, of scalars.
  assert compiled.temporary_bytes < 1000
  assert compiled.spilled_bytes == 0


def test_each_device_steps_its_own_rows():
  mesh = Mesh(np.array(aot.described("h200", 4)), ("data",))
  *cut, scalars = arguments(2048, 512)
  rows, whole = P("data"), P()
  function = jax.shard_map(
    step,
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
  compiled = aot.compile(
    function, *placed, target="h200", devices=4, donate=(0, 1)
  )
  assert compiled.bytes <= 1.001 * 512 * (16 * 512 + 16 * 2)
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
