"""What each optimizer holds for one matrix, as the README declares it."""

import jax
import jax.numpy as jnp
import pytest

from normjax import optim

INPUTS, OUTPUTS = 512, 1376
ENTRIES = INPUTS * OUTPUTS
RANK = 128
# A code of 8 bits an entry, and a float32 for each of a row's blocks of 256.
CODED = ENTRIES + INPUTS * -(-OUTPUTS // 256) * 4
# Half a byte an entry, and a float32 for each of a row's blocks of 128.
HALF = ENTRIES // 2 + INPUTS * -(-OUTPUTS // 128) * 4
PARAMS = {"layers": {"0": {"mlp": {"up": {"kernel": (INPUTS, OUTPUTS)}}}}}

# Counters apart.
BYTES = {
  "adafactor": 4 * (INPUTS + OUTPUTS),
  "adam_8bit": 2 * CODED,
  "adamp": 8 * ENTRIES,
  "adamw": 8 * ENTRIES,
  "adamw_4bit": 2 * HALF,
  "adamw_8bit": 2 * CODED,
  "adamw_fp8": 2 * CODED,
  "apollo": 8 * RANK * OUTPUTS,
  "apollo_mini": 8 * OUTPUTS,
  # Of one layer; `test_block_wise` has trees with more.
  "badam": 8 * ENTRIES,
  "bcd": 0,
  "conda": 8 * ENTRIES + 4 * INPUTS**2,
  "dion": 4 * ENTRIES + 4 * INPUTS * INPUTS,
  "fira": 8 * RANK * OUTPUTS + 4 * RANK * INPUTS,
  "galore": 8 * RANK * OUTPUTS + 4 * RANK * INPUTS,
  "lamb": 8 * ENTRIES,
  "lion": 4 * ENTRIES,
  "lion_8bit": CODED,
  "lisa": 8 * ENTRIES,
  "momentum_8bit": CODED,
  "muon": 4 * ENTRIES,
  "nap_adamw": 8 * ENTRIES + 4,
  "ngpt_adam": 8 * ENTRIES,
  "nfnet_sgd": 4 * ENTRIES,
  "normalized_gd": 0,
  "normuon": 4 * ENTRIES + 4 * OUTPUTS,
  "racs": 4 * (INPUTS + OUTPUTS),
  "scale": 0,
  "sgd": 4 * ENTRIES,
  "sgdp": 4 * ENTRIES,
  "sinkgd": 0,
  "soap": 8 * ENTRIES + 8 * (INPUTS**2 + OUTPUTS**2),
  "stable_spam": 8 * ENTRIES,
  "swan": 0,
}


@pytest.mark.parametrize("name", BYTES)
def test_state_is_as_declared(name):
  params = jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    PARAMS,
    is_leaf=lambda node: isinstance(node, tuple),
  )
  # The tree has one layer, where LISA would move two.
  options = {"num_active": 1} if name == "lisa" else {}
  tx = optim.make(name, learning_rate=0.1, **options)
  state = jax.eval_shape(tx.init, params)
  held = optim.state_bytes(state)
  # Steps, a norm that a limiter remembers: a few numbers.
  assert 0 <= held - BYTES[name] <= 24


def test_codes_and_scales_are_about_a_byte_per_entry():
  """A byte per code and a four-byte scale per block of at most 256."""
  assert 2 * CODED / ENTRIES <= 2.04
  assert CODED / ENTRIES <= 1.02
  assert 2 * HALF / ENTRIES <= 1.064
