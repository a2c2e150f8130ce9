"""GaLore whose moments are held in 8 bits: its parts, put together by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, optim
from tests.support import normal

# Wide, tall, and one whose projected moments are below 4,096 entries.
SHAPES = {"wide": (48, 160), "tall": (160, 48), "small": (16, 32)}


def _leaves():
  return {name: jnp.asarray(normal(*SHAPES[name])) for name in SHAPES}


def _rounded(x, signed):
  held = optim.quantize_blockwise(x, 256, signed)
  return optim.dequantize_blockwise(held, 256, signed)


def test_moments_are_rounded_after_a_step_that_used_them():
  """32-bit GaLore, its moments rounded by hand between the steps."""
  held, plain = (
    optim.scale_by_galore(rank=32, update_proj_gap=2, bits=bits)
    for bits in (8, None)
  )
  params = _leaves()
  states = [tx.init(params) for tx in (held, plain)]
  steps = [jax.jit(tx.update) for tx in (held, plain)]
  for seed in range(3):
    gradients = {
      name: jnp.asarray(normal(*SHAPES[name], seed=seed)) for name in SHAPES
    }
    (moved, ours), (wanted, theirs) = (
      step(gradients, state) for step, state in zip(steps, states, strict=True)
    )
    # One program more or less rounds a product's sum otherwise: 160 terms.
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5),
      moved,
      wanted,
    )
    for name in ("wide", "tall"):
      for field, signed in (("mu", True), ("nu", False)):
        own, full = getattr(ours, field), getattr(theirs, field)
        assert own.codes[name].dtype == jnp.uint8
        again = optim.quantize_blockwise(full[name], 256, signed)
        # Neighbours in the map, where rounding fell on the other side.
        apart = np.abs(own.codes[name].astype(int) - again.codes.astype(int))
        assert apart.max() <= 1
        assert np.mean(apart) < 0.01
        full[name] = _rounded(full[name], signed)
    assert ours.mu.codes["small"].dtype == jnp.float32
    states = [ours, theirs]


def test_the_state_takes_what_its_parts_do():
  params = _leaves()
  state = optim.scale_by_galore(rank=32, bits=8).init(params)
  # (r, l) codes of one byte and a scale per row of the last axis, of m and v;
  # P, (r, k), in float32; and the count.
  rows = {"wide": 32, "tall": 160}
  moments = sum(2 * (32 * 160 + 4 * row) for row in rows.values())
  bases = 2 * 4 * 32 * 48
  small = 4 * (2 * 16 * 32 + 16 * 16)
  assert optim.state_bytes(state) == moments + bases + small + 4


def test_the_other_leaves_have_moments_of_8_bits_too():
  params = {"mlp": {"kernel": jnp.ones((64, 64))}, "scale": jnp.ones(8192)}
  state = optim.galore(0.1, rank=16, bits=8).init(params)
  codes = [x for x in jax.tree.leaves(state) if x.dtype == jnp.uint8]
  assert [x.shape for x in codes].count((8192,)) == 2
  wide = optim.galore(0.1, rank=16).init(params)
  assert not [x for x in jax.tree.leaves(wide) if x.dtype == jnp.uint8]


@pytest.mark.parametrize("bits", [4, 16, 32, "8"])
def test_other_bits_are_refused(bits):
  with pytest.raises((errors.UserError, TypeError), match="bits"):
    optim.galore(0.1, bits=bits)
