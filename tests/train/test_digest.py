"""Fingerprints of leaves: every bit counts, the devices do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.train import digest

DTYPES = (
  "float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "int4",
  "uint4", "int8", "uint8", "int32", "uint32", "int64", "complex64", "bool",
)  # fmt: skip
SHAPES = ((), (3, 0), (2, 3, 4))


def test_the_device_and_the_host_take_the_same_sums():
  with jax.enable_x64(True):
    draw = np.random.default_rng(0)
    leaves = {
      (dtype, shape): jnp.asarray(4 * draw.standard_normal(shape)).astype(dtype)
      for dtype in DTYPES
      for shape in SHAPES
    }
    on_device = jax.jit(lambda given: list(map(digest.on_device, given)))
    found = on_device(list(leaves.values()))
    for (key, leaf), sums in zip(leaves.items(), found, strict=True):
      np.testing.assert_array_equal(sums, digest.on_host(leaf), str(key))


def test_a_key_array_is_its_data():
  key = jax.random.key(3)
  np.testing.assert_array_equal(
    digest.on_device(key), digest.on_host(jax.random.key_data(key))
  )
  assert digest.compute({"a": key}) == digest.compute(
    {"a": jax.random.key_data(key)}
  )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "float64"])
def test_any_flipped_bit_changes_both_sums(dtype):
  values = np.random.default_rng(0).standard_normal(5)
  leaf = values.astype(jnp.dtype(dtype))
  before = digest.on_host(leaf)
  data = leaf.tobytes()
  for bit in range(8 * len(data)):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    after = digest.on_host(np.frombuffer(bytes(changed), leaf.dtype))
    assert np.all(after != before), bit


def test_what_would_cancel_in_a_plain_sum_is_seen():
  leaf = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
  signs = leaf.copy()
  signs[[0, 3], [1, 2]] *= -1
  rows = leaf[[1, 0, 2, 3, 4, 5]]
  for other in (signs, rows, leaf.T, leaf[:5], np.roll(leaf, 1)):
    assert np.all(digest.on_host(other) != digest.on_host(leaf))
  # Zeros count by how many they are.
  assert np.all(digest.on_host(np.zeros(3)) != digest.on_host(np.zeros(4)))


def test_sums_of_more_words_than_are_taken_at_a_time(monkeypatch):
  leaf = np.arange(1000, dtype=np.float32)
  whole = digest.on_host(leaf)
  monkeypatch.setattr(digest, "_CHUNK_WORDS", 64)
  np.testing.assert_array_equal(digest.on_host(leaf), whole)


def test_the_sums_do_not_depend_on_the_devices():
  leaf = jnp.asarray(
    np.random.default_rng(0).standard_normal((16, 8)), jnp.float32
  )
  want = digest.on_host(leaf)
  mesh = jax.make_mesh(
    (4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  split = [
    jax.device_put(leaf, jax.NamedSharding(mesh, jax.P(*spec)))
    for spec in ((), ("a",), (None, "b"), (("a", "b"),))
  ]
  on_device = jax.jit(lambda given: list(map(digest.on_device, given)))
  for sums, each in zip(on_device(split), split, strict=True):
    np.testing.assert_array_equal(sums, want)
    np.testing.assert_array_equal(digest.on_host(each), want)


def test_paths_name_what_differs():
  tree = {"params": {"kernel": np.ones(3), "bias": np.zeros(3)}}
  changed = {"params": {"kernel": np.ones(3), "bias": np.ones(3)}}
  one, other = digest.compute(tree), digest.compute(changed)
  assert digest.differing(one, other) == ["params/bias"]
  assert digest.differing(one, {}) == ["params/bias", "params/kernel"]
  assert digest.differing(one, digest.compute(tree)) == []
