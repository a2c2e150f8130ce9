"""The wrapper that holds the state of any transform in 8 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import optim
from tests.optim.states_8bit import draw, quantized, tree

INNER = {
  "adam": (lambda: optax.scale_by_adam(), 2),
  "amsgrad": (lambda: optax.scale_by_amsgrad(), 3),
  "rms": (lambda: optax.scale_by_rms(), 1),
  "adagrad": (lambda: optax.scale_by_rss(), 1),
  "trace": (lambda: optax.trace(0.9), 1),
  "adamw": (lambda: optax.adamw(1e-3), 2),
  "lion": (lambda: optax.lion(1e-3), 1),
  "lamb": (lambda: optax.lamb(1e-3), 2),
  "adan": (lambda: optax.adan(1e-3), 4),
  "injected": (
    lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
    2,
  ),
  "accumulated": (
    lambda: optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
    3,
  ),
  "muon": (lambda: optim.muon(1e-3), 1),
  "adamp": (lambda: optim.adamp(1e-3), 2),
}


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize(
  "dtype",
  # Nothing of which is widened.
  [jnp.bfloat16, pytest.param(jnp.float32, marks=pytest.mark.slow)],
)
def test_wraps_any_transform(name, dtype):
  """The state is found; updates stay near those of the bare transform."""
  make, states = INNER[name]
  rng = np.random.default_rng(0)
  params = {
    "mlp": {"kernel": jnp.asarray(rng.normal(size=(64, 128)), dtype)},
    "norm": {"scale": jnp.ones(128, dtype)},
  }
  tx, bare = optim.quantize_state(make()), make()
  # The wrapped transform sees float32, whatever the parameters are.
  wide = jax.tree.map(lambda w: w.astype(jnp.float32), params)
  state, bare_state = tx.init(params), bare.init(wide)
  assert len(quantized(state)) == states
  update, bare_update = jax.jit(tx.update), jax.jit(bare.update)
  for _ in range(4):
    g = jax.tree.map(
      lambda w: jnp.asarray(rng.normal(size=w.shape), w.dtype), params
    )
    wide_g = jax.tree.map(lambda x: x.astype(jnp.float32), g)
    expected, bare_state = bare_update(wide_g, bare_state, wide)
    actual, new_state = update(g, state, params)
    assert jax.eval_shape(lambda s=state: s) == jax.eval_shape(
      lambda s=new_state: s
    )
    state = new_state
  jax.tree.map(
    lambda a, g: np.testing.assert_equal(a.dtype, g.dtype), actual, g
  )
  flat = [
    np.concatenate([np.ravel(np.float32(x)) for x in jax.tree.leaves(u)])
    for u in (actual, expected)
  ]
  cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
  assert cosine > (0.9 if name == "lion" else 0.98)


def test_second_moments_use_the_unsigned_map():
  params = {"mlp": {"kernel": jnp.ones((16, 256))}}
  tx = optim.quantize_state(optax.scale_by_adam())
  state = tx.init(params).inner
  assert not np.asarray(state.nu.codes["mlp"]["kernel"]).any()
  assert (np.asarray(state.mu.codes["mlp"]["kernel"]) == 127).all()
  signed = optim.quantize_state(optax.scale_by_adam(), unsigned=())
  codes = signed.init(params).inner.nu.codes["mlp"]["kernel"]
  assert (np.asarray(codes) == 127).all()


def test_exact_fields_stay():
  params = {"mlp": {"kernel": jnp.ones((16, 256))}}
  tx = optim.quantize_state(optax.scale_by_adam(), exact=("nu",))
  assert len(quantized(tx.init(params))) == 1


def test_state_that_is_held_in_8_bits_already():
  """It is neither rounded again nor read with other blocks."""
  w, gradients = draw((16, 256), steps=2)
  inner = optim.adam_8bit(0.1, block_size=64)
  both = []
  for tx in (inner, optim.quantize_state(inner, block_size=16)):
    state, update = tx.init(w), jax.jit(tx.update)
    for g in gradients:
      moved, state = update(jnp.asarray(g), state, jnp.asarray(w))
    both.append((moved, jax.tree.leaves(state)))
  jax.tree.map(np.testing.assert_array_equal, *both)


def test_fields_are_two_trees_of_the_parameters():
  """Also where a group of a partition leaves parameters out."""
  params = tree() | {"frozen": {"kernel": jnp.ones((64, 64))}}
  labels = {**jax.tree.map(lambda _: "moves", tree()), "frozen": "rests"}
  tx = optim.quantize_state(
    optax.partition(
      {"moves": optax.scale_by_adam(), "rests": optax.set_to_zero()}, labels
    )
  )
  state = tx.init(params)
  mu = state.inner.inner_states["moves"].inner_state.mu
  assert isinstance(mu, optim.Quantized)
  assert isinstance(mu.codes["frozen"], optax.MaskedNode)
  assert mu.codes["mlp"]["kernel"].dtype == jnp.uint8
  assert mu.absmax["mlp"]["kernel"].shape == (64, 1)
  assert mu.codes["small"]["kernel"].dtype == jnp.float32
  assert isinstance(mu.absmax["small"]["kernel"], optax.MaskedNode)
  # What shards parameters finds codes and scales, told from counts.
  doubled = optax.tree.map_params(tx, lambda leaf: leaf + 1, state)
  assert jax.tree.structure(doubled) == jax.tree.structure(state)
  for before, after in zip(
    *map(jax.tree.leaves, (state, doubled)), strict=True
  ):
    assert (np.asarray(after) == np.asarray(before) + (before.ndim > 0)).all()


def test_parameters_of_one_name_are_told_apart():
  """A path that ends another path; the shapes differ."""
  params = {
    "kernel": jnp.ones((16, 512)),
    "mlp": {"kernel": jnp.ones((64, 64))},
  }
  tx = optim.quantize_state(optax.trace(0.9))
  state = tx.init(params)
  held = {x.codes.shape for x in quantized(state)}
  assert held == {(16, 512), (64, 64)}
  tx.update(params, state, params)


@pytest.mark.parametrize(
  ("options", "error"),
  [
    ({"block_size": 0}, ValueError),
    ({"block_size": True}, TypeError),
    ({"min_size": -1}, ValueError),
    ({"block_layout": "columns"}, ValueError),
    ({"keep": "("}, ValueError),
    ({"unsigned": "nu"}, TypeError),
  ],
)
def test_bad_options(options, error):
  (name,) = options
  with pytest.raises(error, match=f"quantize_state: {name}"):
    optim.quantize_state(optax.trace(0.9), **options)
