"""Stacked calls equal single ones, and are one for each shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.optim import stacking


def matrices(*shapes):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


SHAPES = ((1, 3, 4), (2, 4, 3), (2, 3, 4), (1, 4, 3), (5, 3, 4), (1, 2, 2))


@pytest.mark.parametrize("in_cache", [False, True])
def test_rows_come_back_in_order(in_cache):
  x = matrices(*SHAPES)
  y = [2 * matrix for matrix in x]

  def function(x, y):
    return {"sum": x + y, "norms": jnp.sum(x * x, axis=(1, 2))}

  actual = stacking.stacked(function, x, y, in_cache=in_cache)
  for a, *row in zip(actual, x, y, strict=True):
    jax.tree.map(np.testing.assert_array_equal, a, function(*row))


def test_one_call_for_each_shape_and_dtype():
  calls = []

  def function(x):
    calls.append(x.shape)
    return x

  x = [*matrices(*SHAPES), jnp.ones((1, 3, 4), jnp.bfloat16)]
  stacking.stacked(function, x)
  assert calls == [(8, 3, 4), (3, 4, 3), (1, 2, 2), (1, 3, 4)]


def test_both_platforms_branches_agree():
  """What an accelerator would run, on this CPU: the same numbers."""
  x = matrices(*SHAPES)

  def function(x):
    return x / jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True))

  together = jax.jit(lambda x: stacking.stacked(function, x))(x)
  apart = jax.jit(lambda x: stacking.stacked(function, x, in_cache=True))(x)
  for a, b in zip(together, apart, strict=True):
    # Sums of four terms in another order.
    np.testing.assert_allclose(a, b, rtol=4 * 2.0**-23)


def test_nothing_to_stack():
  for in_cache in (False, True):
    assert stacking.stacked(lambda x: x, [], in_cache=in_cache) == []
