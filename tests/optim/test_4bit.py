"""AdamW with moments of 4 bits and FP8, beside what torchao's replay shows."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.extend import core

from kernels_pallas import aot
from normjax import optim
from normjax.optim import codebooks, draws
from tests.optim.states_8bit import draw, quantized, tree

ZIP_SR = {
  "signed_code": "nf4",
  "unsigned_code": "dynamic4",
  "unsigned_rounding": "preconditioner",
}
ZE_EDEN = {
  "signed_code": "nf4",
  "unsigned_code": "dynamic4_nonzero",
  "calibrated": True,
}
SMALL = {"min_size": 1, "block_size": 8}


def follow(tx, w, gradients):
  """The weights after each step, and the last state."""
  update, state = jax.jit(tx.update), tx.init(w)
  weights = []
  for g in gradients:
    updates, state = update(jnp.asarray(g), state, w)
    w = optax.apply_updates(w, updates)
    weights.append(w)
  return weights, state


def nearest(x, table):
  """Of blocks as rows, in units of the largest; ties up."""
  table = table[::-1]
  return table[np.abs(x[..., None] - table).argmin(axis=-1)]


def zip_sr(w, gradients, uniform, *, lr, b1=0.9, b2=0.999, eps=1e-8, wd=0.01):
  """ZIPSRAdamW4Bit of nubank/adamw4bit in float64, with these draws."""
  nf4 = np.float64(codebooks.values("nf4", True))
  dyn4 = np.float64(codebooks.values("dynamic4", False))
  w = np.float64(w)
  m, v = np.zeros_like(w), np.zeros_like(w)
  for t, (g, r) in enumerate(zip(gradients, uniform, strict=True), start=1):
    m = m + (1 - b1) * (g - m)
    v = v + (1 - b2) * (np.float64(g) ** 2 - v)
    c1, c2 = 1 - b1**t, 1 - b2**t

    def preconditioner(x, c2=c2):
      return 1 / (np.sqrt(x / c2) + eps)

    scale = v.max(axis=1, keepdims=True)
    x = v / scale
    right = np.clip(np.searchsorted(dyn4, x), 1, 15)
    a, b = dyn4[right - 1], dyn4[right]
    at_a, at_b = preconditioner(a * scale), preconditioner(b * scale)
    takes_a = (preconditioner(v) - at_b) / (at_a - at_b)
    v = np.where(r < takes_a, a, b) * scale
    w = w * (1 - lr * wd) - lr * m / c1 / (np.sqrt(v / c2) + eps)
    m_scale = np.abs(m).max(axis=1, keepdims=True)
    m = nearest(m / m_scale, nf4) * m_scale
  return w


def test_zip_sr_equals_its_transcription():
  w, gradients = draw((16, 8), steps=5)
  tx = optim.adamw_4bit(1e-2, **ZIP_SR, **SMALL)
  weights, _ = follow(tx, jnp.asarray(w), gradients)
  uniform = [draws.uniform("nu/", w.shape, t) for t in range(5)]
  expected = zip_sr(w, gradients, map(np.float64, uniform), lr=1e-2)
  # The draws of 640 entries lie apart from their probabilities, which float32
  # has within 1e-5 of themselves; a step is at most 0.03 long.
  error = np.abs(np.asarray(weights[-1]) - expected)
  assert (error > 1e-5).sum() <= 2
  assert error.max() < 0.3


@pytest.mark.parametrize(
  "options", [{}, ZIP_SR, ZE_EDEN], ids=["ao", "zip", "ze"]
)
def test_follows_adamw(options):
  """In direction: what 4 bits lose is below what they keep."""
  w, gradients = draw((16, 128), steps=6)
  w = jnp.asarray(w)
  gradients = gradients / np.abs(gradients) * np.minimum(np.abs(gradients), 3)
  exact, _ = follow(optim.adamw(1e-2), w, gradients)
  found, _ = follow(optim.adamw_4bit(1e-2, min_size=1, **options), w, gradients)
  a, b = (np.ravel(np.asarray(path[-1] - w)) for path in (exact, found))
  assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.8


def test_small_entries_of_a_block_are_slow():
  """An entry with 1e-3 of its block's g^2: sqrt(62.5) = 7.9 times too slow."""
  g = jnp.full((1, 128), 1e-3**0.5).at[0, 0].set(1.0)
  ratios = {}
  for name, options in (
    ("adamw", {}),
    ("adamw_4bit", {"min_size": 1}),
    ("adamw_8bit", {"min_size": 1}),
  ):
    tx = optim.make(name, learning_rate=1.0, b2=0.9999, **options)
    _, state = tx.update(g, tx.init(g), g)
    updates, _ = tx.update(g, state, g)
    ratios[name] = float(updates[0, 1])
  slow = ratios["adamw"] / ratios["adamw_4bit"]
  # v is a mean of the 16th that was read and of its own g^2, of 2 steps.
  assert slow == pytest.approx(((62.5 + 1) / 2) ** 0.5, rel=0.1)
  assert ratios["adamw"] / ratios["adamw_8bit"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["adamw_4bit", "adamw_fp8"])
def test_which_leaves_are_held(name):
  """Not embeddings, what is small, what an odd row of 4 bits would not fill."""
  params = tree() | {"head": {"kernel": jnp.ones((128, 65))}}
  tx = optim.make(name, learning_rate=0.1)
  held = {x.absmax.shape for x in quantized(tx.init(params))}
  odd = name == "adamw_fp8"
  assert ((128, 1) in held) == odd
  described = optim.describe(name, params)
  bits = "8" if odd else "4"
  assert described["mlp/kernel"] == f"adamw ({bits}-bit state)"
  assert described["embed/embedding"] == "adamw (32-bit state)"
  assert described["small/kernel"] == "adamw (32-bit state)"
  assert described["head/kernel"] == f"adamw ({8 if odd else 32}-bit state)"


def test_codes_of_both_kinds_beside_each_other():
  """A first moment in 4 bits, squares in 8: each leaf as its code asks."""
  params = {"mlp": {"kernel": jnp.ones((64, 65))}}
  tx = optim.quantize_state(
    optax.scale_by_adam(), bits=4, unsigned_code="dynamic8"
  )
  (held,) = quantized(tx.init(params))
  assert held.codes.shape == (64, 65)
  found = optim.describe("adamw_4bit", params, unsigned_code="dynamic8")[
    "mlp/kernel"
  ]
  assert found == "adamw (32- and 8-bit state)"


@pytest.mark.parametrize("options", [ZIP_SR, {"signed_rounding": "stochastic"}])
def test_goes_on_bit_for_bit_from_a_checkpoint(options, tmp_path):
  w, gradients = draw((16, 8), steps=2)
  tx = optim.adamw_4bit(1e-2, **SMALL, **options)
  (_, w), state = follow(tx, jnp.asarray(w), gradients)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "state", state)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
      tmp_path / "state", jax.eval_shape(lambda: state)
    )
  jax.tree.map(
    np.testing.assert_array_equal,
    tx.update(gradients[0], restored, w),
    tx.update(gradients[0], state, w),
  )


def test_seeds_draw_apart():
  w, gradients = draw((16, 8), steps=3)
  (*_, one), (*_, other) = (
    follow(optim.adamw_4bit(1e-2, seed=seed, **ZIP_SR, **SMALL), w, gradients)[
      0
    ]
    for seed in (0, 1)
  )
  assert (one != other).any()


@pytest.mark.parametrize(
  "options", [{}, ZIP_SR, ZE_EDEN], ids=["ao", "zip", "ze"]
)
def test_bad_gradients_move_nothing(options):
  """NaN, infinity: the entry stays, its neighbours go on."""
  w = jnp.ones((2, 8))
  g = jnp.ones((2, 8)).at[0, 0].set(jnp.nan).at[1, 3].set(jnp.inf)
  tx = optim.adamw_4bit(1e-2, weight_decay=0.0, **options, **SMALL)
  weights, state = follow(tx, w, [g, g])
  stays = ~np.isfinite(g)
  np.testing.assert_array_equal(np.asarray(weights[-1])[stays], 1)
  assert (np.asarray(weights[-1])[~stays] < 1).all()
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"bits": 5}, "bits=5; allowed: 8, 4"),
    ({"bits": 4, "block_size": 7}, "block_size=7; allowed: an even int"),
    ({"signed_rounding": "stochastic"}, "'dynamic8' has 8 bits"),
    ({"unsigned_rounding": "preconditioner"}, "allowed: 'nearest'"),
    ({"unsigned_code": "nf4"}, "unsigned_code='nf4'; allowed: .*'linear4'"),
    ({"seed": -1}, "seed=-1; allowed: an int >= 0"),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(ValueError, match=f"quantize_state: .*{message}"):
    optim.quantize_state(optax.trace(0.9), **options)


def test_calibration_is_of_4_bits():
  with pytest.raises(ValueError, match="calibrated=True: unsigned_code='e4m3'"):
    optim.adamw_4bit(0.1, unsigned_code="e4m3", calibrated=True)


OF_TWO = {
  "torchao": ("adamw_4bit", {}),
  "nf4": ("adamw_4bit", {"signed_code": "nf4", "unsigned_code": "dynamic4"}),
  "calibrated": ("adamw_4bit", ZE_EDEN),
  "8 bits": ("adamw_4bit", {"unsigned_code": "dynamic8"}),
  "fp8": ("adamw_fp8", {}),
}


@pytest.mark.parametrize("case", OF_TWO)
def test_scales_from_moments_computed_twice_are_theirs(case):
  """The program of a GPU, run here, does what a CPU's does."""
  name, options = OF_TWO[case]
  tx = optim.make(name, learning_rate=1e-2, block_size=128, **options)
  w, gradients = draw((1024, 544), steps=2)
  # One leaf is not held, and a gradient is no number.
  params = {"mlp": {"kernel": jnp.asarray(w), "bias": jnp.ones(544)}}
  gradients = np.float32(gradients).copy()
  gradients[1, 3, 5] = np.nan
  state = tx.init(params)
  for g in gradients:
    g = {"mlp": {"kernel": jnp.asarray(g), "bias": jnp.asarray(g[0])}}
    with aot.abstract("h200"):
      traced, shapes = jax.make_jaxpr(tx.update, return_shape=True)(
        g, state, params
      )
    # Codes, and no gradients: a clipped one would be kept.
    shielded = [
      {x.aval.dtype for x in eqn.invars if x.aval.size >= w.size // 2}
      for eqn in traced.eqns
      if eqn.primitive.name == "optimization_barrier"
    ]
    assert set.union(*shielded) == {jnp.dtype(jnp.uint8)}
    found = jax.tree.structure(shapes).unflatten(
      jax.jit(core.jaxpr_as_fun(traced))(*jax.tree.leaves((g, state, params)))
    )
    updates, state = jax.jit(tx.update)(g, state, params)
    # Values come from the same codes; both programs round what follows, and a
    # fused multiplication not where another one does.
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8),
      found[0],
      updates,
    )
    for here, there in zip(*map(quantized, (state, found[1])), strict=True):
      np.testing.assert_allclose(there.absmax, here.absmax, rtol=1e-5)
      # What lies within a rounding of a threshold, or a bad code of 8 bits.
      differ = np.asarray(here.codes != there.codes)
      assert differ.mean() < 2e-3


def test_only_a_gpu_computes_moments_twice():
  """A TPU's compiler would move more bytes, a CPU's compute more."""
  w = jnp.ones((1024, 512))
  tx = optim.adamw_4bit(1e-2)
  state = jax.eval_shape(tx.init, w)

  def count(target):
    with aot.abstract(target) if target else contextlib.nullcontext():
      text = str(jax.make_jaxpr(tx.update)(w, state, w))
    # Roots of v and of its correction; each moment is quantised once.
    return text.count("sqrt"), text.count("reduce_max")

  assert count("h200") == (4, 2)
  assert count("v6e") == count(None) == (2, 2)
