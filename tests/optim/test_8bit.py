"""The optimizers with 8-bit states."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import optim
from tests.contracts import optimizer_contract
from tests.optim import cases, references_8bit
from tests.optim.states_8bit import draw, quantized, tree

NAMES = ("adam_8bit", "adamw_8bit", "momentum_8bit", "lion_8bit")
STEPS = {
  "adam_8bit": references_8bit.adam_step,
  "momentum_8bit": references_8bit.momentum_step,
  "lion_8bit": references_8bit.lion_step,
}
U = 2.0**-24
_SMALL = {"block_size": 8, "min_size": 8, "keep": None}


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(
      cases.case(name).at(_SMALL),
      # adam_8bit with a decay.
      marks=pytest.mark.slow if name == "adamw_8bit" else (),
      id=name,
    )
    for name in NAMES
  ],
)
class TestQuantized(optimizer_contract.OptimizerContract):
  """The shared contract again, on leaves that are quantised."""


def agree(codes, expected, exact, absmax, code, block_size):
  """Codes are equal, or the value lies on the midpoint between the two.

  XLA may fuse b * m + (1 - b) * g into one rounding; NumPy rounds three
  times: 3 u of the larger term, 0.9 |m| + |g| <= 10 |result| unless the two
  cancel, which the entries that are let off must not hide: they are counted.
  """
  differ = codes != expected
  midpoint = references_8bit.midpoints(code)
  scale = np.repeat(absmax, block_size)[: codes.size].reshape(codes.shape)
  y = exact[differ] / scale[differ]
  low = np.minimum(codes[differ], expected[differ])
  assert (np.abs(codes[differ].astype(int) - expected[differ]) == 1).all()
  np.testing.assert_allclose(y, midpoint[low], rtol=30 * U)
  # A bin is at least 0.7% of its value wide: the chance to lie this close to
  # its edge is 2 * 30 u / 0.007 = 5e-4.
  assert differ.mean() < 5e-4


@pytest.mark.parametrize("sign_repair", [True, False])
@pytest.mark.parametrize("block_size", [256, 64])
@pytest.mark.parametrize("name", STEPS)
def test_every_step_equals_the_kernel(name, block_size, sign_repair):
  """From the same state, one step gives the same codes; twelve in a row."""
  w, gradients = draw((48, 130))
  tx = optim.make(
    name,
    learning_rate=0.01,
    block_size=block_size,
    block_layout="flat",
    sign_repair=sign_repair,
  )
  update = jax.jit(tx.update)
  state = tx.init(jnp.asarray(w))
  signs = (True, False)[: len(quantized(state))]
  for t, g in enumerate(gradients, start=1):
    blocks = [
      references_8bit.Blocks(
        *jax.device_get(held), signed, block_size, sign_repair and signed
      )
      for held, signed in zip(quantized(state), signs, strict=True)
    ]
    expected, fresh = STEPS[name](t, w, g, *blocks, learning_rate=0.01)
    moved, state = update(jnp.asarray(g), state, jnp.asarray(w))
    actual = np.asarray(w + moved)
    # Ten roundings of the step, which no bias correction amplifies: both sides
    # take 1 - b^t in float64 or by expm1.
    bound = 4 * U * np.abs(w) + 30 * U * np.abs(expected - w)
    assert (np.abs(actual - expected) <= bound).all()
    for held, block, exact in zip(quantized(state), blocks, fresh, strict=True):
      np.testing.assert_allclose(held.absmax, block.absmax, rtol=30 * U)
      agree(
        np.asarray(held.codes),
        block.codes,
        exact,
        block.absmax,
        block.code,
        block_size,
      )
    w = actual


@pytest.mark.parametrize("name", STEPS)
def test_trajectory_equals_the_kernel(name):
  """Twelve steps apart: what a tie moved is rare, all else is equal."""
  w, gradients = draw((48, 130))
  tx = optim.make(name, learning_rate=0.01, block_layout="flat")
  update = jax.jit(tx.update)
  ours, state = jnp.asarray(w), tx.init(jnp.asarray(w))
  blocks = [
    references_8bit.Blocks(*jax.device_get(held), signed, 256, signed)
    for held, signed in zip(quantized(state), (True, False), strict=False)
  ]
  apart = np.zeros(w.shape, bool)
  for t, g in enumerate(gradients, start=1):
    w, _ = STEPS[name](t, w, g, *blocks, learning_rate=0.01)
    moved, state = update(jnp.asarray(g), state, ours)
    ours = ours + moved
    for held, block in zip(quantized(state), blocks, strict=True):
      apart |= np.asarray(held.codes) != block.codes
  assert apart.mean() < 12 * 2 * 5e-4
  size = np.abs(w - draw(w.shape)[0])
  np.testing.assert_array_less(
    np.abs(np.asarray(ours) - w)[~apart],
    (12 * (4 * U * (np.abs(w) + size) + 30 * U * (size.max())))[~apart],
  )


@pytest.mark.parametrize(
  ("name", "most"),
  [("adam_8bit", 2.04), ("momentum_8bit", 1.02), ("lion_8bit", 1.02)],
)
def test_state_bytes(name, most):
  params = {"mlp": {"kernel": jnp.zeros((512, 1376))}}
  state = optim.make(name, learning_rate=0.1).init(params)
  assert optim.state_bytes(state) / params["mlp"]["kernel"].size <= most


def test_which_leaves_are_quantised():
  described = optim.describe("adam_8bit", tree())
  held = {path for path, name in described.items() if "(8-bit" in name}
  assert held == {"mlp/kernel", "large/bias"}
  state = optim.adam_8bit(0.1).init(tree())
  assert len(quantized(state)) == 2 * len(held)
  narrow = [x for x in jax.tree.leaves(state) if x.dtype == jnp.uint8]
  assert {x.shape for x in narrow} == {(64, 64), (8192,)}
  everything = optim.adam_8bit(0.1, keep=None, min_size=0, block_layout="flat")
  assert len(quantized(everything.init(tree()))) == 2 * len(
    jax.tree.leaves(tree())
  )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_what_is_kept_is_float32(dtype):
  params = jax.tree.map(lambda w: w.astype(dtype), tree())
  tx = optim.adam_8bit(0.1)
  state = tx.init(params)
  _, state = tx.update(params, state, params)
  for leaf in jax.tree.leaves(state):
    assert leaf.dtype in (jnp.uint8, jnp.float32, jnp.int32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("min_size", [0, 10**9])
def test_gradient_that_is_not_finite(name, bad, min_size):
  """Its entry stays and forgets; the others do not notice."""
  w, gradients = draw((4, 64), steps=3)
  weight_decay = {} if name == "momentum_8bit" else {"weight_decay": 0.1}
  tx = optim.make(name, learning_rate=0.01, min_size=min_size, **weight_decay)
  update = jax.jit(tx.update)
  state = clean_state = tx.init(jnp.asarray(w))
  broken = gradients.copy()
  # The smallest of its row, so that no scale changes.
  column = np.abs(gradients[:2]).max(axis=(0, 1)).argmin()
  broken[1][:, column] = bad
  for t in range(2):
    moved, state = update(jnp.asarray(broken[t]), state, jnp.asarray(w))
    clean, clean_state = update(
      jnp.asarray(gradients[t]), clean_state, jnp.asarray(w)
    )
  others = np.arange(64) != column
  assert not np.asarray(moved)[:, column].any()
  np.testing.assert_array_equal(moved[:, others], clean[:, others])
  for held, reference in zip(
    quantized(state), quantized(clean_state), strict=True
  ):
    np.testing.assert_array_equal(
      held.codes[:, others], reference.codes[:, others]
    )
  for leaf in jax.tree.leaves(state):
    assert np.isfinite(np.asarray(leaf)).all()
  after, _ = update(jnp.asarray(gradients[2]), state, jnp.asarray(w))
  assert np.asarray(after)[:, column].all()


def test_square_that_overflows():
  """Else v would be infinite, be stored as 0 and let the next step explode."""
  w = jnp.ones((1, 4096))
  tx = optim.adam_8bit(0.1)
  state = tx.init(w)
  g = jnp.full(w.shape, 0.5).at[0, 7].set(1e25)
  for gradient in (g, jnp.full(w.shape, 0.5)):
    updates, state = tx.update(gradient, state, w)
    assert np.abs(updates).max() < 1


def test_decay_acts_on_the_weight_that_has_moved():
  w, (g,) = draw((4, 64), steps=1)
  plain = optim.adam_8bit(0.01)
  decayed = optim.adam_8bit(0.01, weight_decay=0.5)
  step, _ = plain.update(jnp.asarray(g), plain.init(w), jnp.asarray(w))
  both, _ = decayed.update(jnp.asarray(g), decayed.init(w), jnp.asarray(w))
  np.testing.assert_allclose(w + both, (w + step) * (1 - 0.005), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1])
def test_sharded_equals_whole(name, axis):
  """Shards of whole blocks: the same codes, sharded as the parameter is."""
  mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
  spec = PartitionSpec("d", None) if axis == 0 else PartitionSpec(None, "d")
  sharding = NamedSharding(mesh, spec)
  w, gradients = draw((16, 512), steps=3)
  tx = optim.make(name, learning_rate=0.01, block_size=64)
  update = jax.jit(tx.update)
  one, many = jnp.asarray(w), jax.device_put(w, sharding)
  one_state, many_state = tx.init(one), tx.init(many)

  def place(leaf):
    return jax.device_put(
      leaf, sharding if leaf.ndim else NamedSharding(mesh, PartitionSpec())
    )

  many_state = jax.tree.map(place, many_state)
  for g in gradients:
    u_one, one_state = update(jnp.asarray(g), one_state, one)
    u_many, many_state = update(jax.device_put(g, sharding), many_state, many)
    np.testing.assert_array_equal(u_one, u_many)
    jax.tree.map(np.testing.assert_array_equal, one_state, many_state)
    one, many = one + u_one, many + u_many
  for held in quantized(many_state):
    for leaf in held:
      assert leaf.sharding.is_equivalent_to(sharding, 2)
  text = update.lower(many, many_state, many).compile().as_text()
  for collective in ("all-gather", "all-reduce", "all-to-all", "permute"):
    assert collective not in text


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint(name, tmp_path):
  w, gradients = draw((16, 256), steps=2)
  tx = optim.make(name, learning_rate=0.01)
  state = tx.init(jnp.asarray(w))
  _, state = tx.update(jnp.asarray(gradients[0]), state, jnp.asarray(w))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "state", state)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
      tmp_path / "state", jax.eval_shape(lambda: state)
    )
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  expected = tx.update(jnp.asarray(gradients[1]), state, jnp.asarray(w))
  actual = tx.update(jnp.asarray(gradients[1]), restored, jnp.asarray(w))
  jax.tree.map(np.testing.assert_array_equal, actual, expected)
