"""The buffer against the plain algorithm, and what it promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.continual import reservoir

CAPACITY = 7


def _plain(drawn, num_seen, rows, values):
  """Vitter's algorithm R, one example after the other."""
  for r, value in zip(drawn, values, strict=True):
    if num_seen < CAPACITY:
      rows[num_seen] = value
    elif r < CAPACITY:
      rows[r] = value
    num_seen += 1
  return num_seen


def _empty():
  return reservoir.empty(CAPACITY, {"id": jax.ShapeDtypeStruct((), jnp.int32)})


def test_equals_the_plain_algorithm():
  """In batches that do not divide the capacity, under jit; later ones win."""
  add = jax.jit(reservoir.add)
  met_twice = 0
  for start in range(12):
    buffer, rows, num_seen = _empty(), [0] * CAPACITY, 0
    for step in range(5):
      key = jax.random.fold_in(jax.random.key(start), step)
      values = np.arange(num_seen, num_seen + 5) + 1
      # Its draws: uniform in 0 to n, of the n-th example.
      drawn = np.asarray(jax.random.randint(key, (5,), 0, jnp.asarray(values)))
      assert (drawn < values).all()
      taken = drawn[(drawn < CAPACITY) & (values > CAPACITY)]
      met_twice += len(taken) != len(set(taken))
      num_seen = _plain(drawn, num_seen, rows, values)
      buffer = add(buffer, key, {"id": jnp.asarray(values)})
      np.testing.assert_array_equal(buffer.rows["id"], rows)
      assert int(buffer.num_seen) == num_seen
  assert met_twice


def test_each_example_is_as_likely_kept():
  """After n = 28 examples with probability 7 / 28."""

  def kept(key):
    buffer = _empty()
    for n, k in enumerate(jax.random.split(key, 4)):
      buffer = reservoir.add(buffer, k, {"id": jnp.arange(7 * n, 7 * n + 7)})
    return buffer.rows["id"]

  ids = jax.jit(jax.vmap(kept))(jax.random.split(jax.random.key(0), 4000))
  counts = np.bincount(np.asarray(ids).ravel(), minlength=28) / 4000
  # Five standard deviations of a share of 4000.
  assert np.abs(counts - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


def test_a_draw_is_of_different_filled_rows():
  draw = jax.jit(functools.partial(reservoir.draw, size=3))
  buffer = reservoir.add(_empty(), jax.random.key(0), {"id": jnp.arange(1, 5)})
  seen = [np.asarray(draw(buffer, jax.random.key(n))["id"]) for n in range(40)]
  assert all(len(set(ids)) == 3 for ids in seen)
  assert set(np.concatenate(seen)) == {1, 2, 3, 4}
  with pytest.raises(errors.UserError, match="lower replay_size"):
    reservoir.draw(buffer, jax.random.key(0), CAPACITY + 1)
