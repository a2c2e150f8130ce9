"""Bytes of Pallas calls from their blocks and grids."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels_pallas.aot import blockwise


def moved(index_map, grid, block=(8, 128), shape=(20, 256), wrap=lambda f: f):
  """Bytes of x alone, of a call whose result is one small block."""

  def kernel(x_ref, y_ref):
    y_ref[...] = jnp.zeros_like(y_ref)

  small = pl.BlockSpec((1, 128), lambda *_: (0, 0))

  def f(x):
    return pl.pallas_call(
      kernel,
      grid=grid,
      in_specs=[pl.BlockSpec(block, index_map)],
      out_specs=small,
      out_shape=jax.ShapeDtypeStruct((1, 128), jnp.float32),
      name="op",
    )(x)

  program = jax.make_jaxpr(wrap(f))(jnp.zeros(shape, jnp.float32))
  (call,) = blockwise.moved(program.jaxpr)
  assert call.name == "op"
  assert call.shapes == (shape, (1, 128))
  return call.bytes - 4 * 128


def test_every_block_once_and_edges_as_far_as_they_reach():
  assert moved(lambda i, j: (i, j), (3, 2)) == 4 * 20 * 256


def test_lanes_are_whole():
  column = {"block": (8, 1), "shape": (20, 1)}
  assert moved(lambda i: (i, 0), (3,), **column) == 4 * 20 * 128
  edge = {"block": (20, 128), "shape": (20, 200)}
  assert moved(lambda i: (0, i), (2,), **edge) == 4 * 20 * 256


def test_a_block_that_stays_is_fetched_once():
  assert moved(lambda i, j: (i, 0), (3, 2)) == 4 * 20 * 128


def test_a_block_that_comes_back_is_fetched_again():
  assert moved(lambda i, j: (j, 0), (2, 3)) == 2 * 4 * 20 * 128
  # An index that is computed by a function of its own.
  assert moved(lambda i: (i // 2, 0), (6,)) == 4 * 20 * 128


def test_calls_within_other_programs():
  def wrap(f):
    def looped(x):
      return jax.lax.map(lambda _: jax.jit(f)(x), jnp.arange(3))

    return looped

  assert moved(lambda i: (i, 0), (3,), block=(8, 256), wrap=wrap) == 20 * 1024


def test_without_a_grid_the_whole_array():
  assert moved(lambda: (0, 0), (), block=(20, 256)) == 4 * 20 * 256
