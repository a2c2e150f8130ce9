import jax
import jax.numpy as jnp
import numpy as np

from normjax.nn import mixing
from normjax.nn.mixing.softmax import softmax_with_sink


def _qkv(seed=0, length=6):
  rng = np.random.default_rng(seed)
  shape = (2, length, 2, 4)
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in "qkv"]


def test_off_by_one_is_softmax_with_a_zero_key_and_a_zero_value():
  q, k, v = _qkv()
  got = mixing.make("softmax_off_by_one").apply({}, q, k, v, causal=False)
  appended = [jnp.pad(a, [(0, 0), (0, 1), (0, 0), (0, 0)]) for a in (k, v)]
  want = mixing.make("softmax").apply({}, q, *appended, causal=False)
  # A key of 0 has the score 0. Sums of 7 float32 terms in another order.
  np.testing.assert_allclose(
    got.values_bthk, want.values_bthk, rtol=0, atol=16 * 2**-24
  )


def test_its_weights_are_those_of_the_appended_zero_exactly():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6)), jnp.float32)
  with jax.enable_x64(True):
    x = jnp.asarray(x, jnp.float64)
    got = softmax_with_sink(x, jnp.zeros((1, 1)))
    want = jax.nn.softmax(jnp.pad(x, [(0, 0), (0, 1)]), axis=-1)[:, :-1]
    np.testing.assert_allclose(got, want, rtol=4 * 2**-53)


def test_the_maximum_includes_the_sink():
  """exp(-m) of m = max x = -200 would overflow; so would exp(200)."""
  x = jnp.full((1, 3), -200.0)
  np.testing.assert_array_equal(softmax_with_sink(x, jnp.zeros((1, 1))), 0)
  gradient = jax.grad(lambda x: softmax_with_sink(x, jnp.zeros((1, 1))).sum())
  np.testing.assert_array_equal(gradient(x), 0)
  np.testing.assert_allclose(softmax_with_sink(-x, jnp.zeros((1, 1))), 1 / 3)


def test_a_sink_of_zero_is_off_by_one_and_a_low_one_is_softmax():
  qkv = _qkv()

  def apply(name, params):
    return mixing.make(name).apply(params, *qkv, causal=True).values_bthk

  start = mixing.make("softmax_sink").init(jax.random.key(0), 2, 4)
  np.testing.assert_array_equal(
    apply("softmax_sink", start), apply("softmax_off_by_one", {})
  )
  low = {"sink": jnp.full(2, -1e9)}
  np.testing.assert_allclose(
    apply("softmax_sink", low), apply("softmax", {}), rtol=1e-6
  )


def test_the_cap_bounds_the_ratio_of_weights():
  """Scores in [-c, c]: no weight is exp(2 c) times another."""
  q, k, _ = _qkv()
  identity = jnp.broadcast_to(jnp.eye(6)[None, :, None], (2, 6, 2, 6))
  weights = (
    mixing.make("softmax")
    .apply({}, 100 * q, k, identity, causal=False, logit_cap=2.0)
    .values_bthk
  )
  ratio = weights.max(axis=-1) / weights.min(axis=-1)
  assert 50 < ratio.max() <= np.exp(4) * 1.0001


def test_first_token_mass_is_the_mean_weight_on_key_zero():
  q, k, _ = _qkv()
  identity = jnp.broadcast_to(jnp.eye(6)[None, :, None], (2, 6, 2, 6))
  mask = np.array([[True] * 6, [True] * 4 + [False] * 2])
  for name in ("softmax", "softmax_off_by_one"):
    mixed = mixing.make(name).apply(
      {}, q, k, identity, causal=True, mask_bs=jnp.asarray(mask)
    )
    want = np.asarray(mixed.values_bthk)[mask][..., 0].mean(axis=0)
    np.testing.assert_allclose(mixed.first_token_mass_h, want, rtol=1e-6)


def test_scores_of_bfloat16_are_float32():
  """Scores near 300 differ by less than bfloat16 can tell."""
  q = jnp.full((1, 1, 1, 4), 8.0, jnp.bfloat16)
  k = jnp.array([[75.0, 75, 75, 75], [75, 75, 75, 74.5]], jnp.bfloat16)
  weights = (
    mixing.make("softmax")
    .apply(
      {},
      q,
      k[None, :, None],
      jnp.eye(2)[None, :, None],
      causal=False,
      scale=0.5,
    )
    .values_bthk
  )
  # 8 x 0.5 x 0.5 = 2 between the scores.
  expected = np.exp([0, -2]) / (1 + np.exp(-2))
  np.testing.assert_allclose(weights[0, 0, 0], expected, rtol=1e-6)
