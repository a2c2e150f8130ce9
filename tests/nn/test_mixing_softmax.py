import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kernels_pallas import attention, dispatch
from normjax import build, configure, errors
from normjax.nn import mixing
from normjax.nn.attention import Attention
from tests.nn import references_mixing


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


def _weights(scores, name="softmax_off_by_one", params=None):
  """The weights of one query on the keys: the values are unit vectors."""
  keys = jnp.asarray(scores)[None, :, None, None]
  values = jnp.eye(len(scores), dtype=keys.dtype)[None, :, None]
  mixed = mixing.make(name).apply(
    params or {}, jnp.ones((1, 1, 1, 1), keys.dtype), keys, values, causal=False
  )
  return mixed.values_bthk[0, 0, 0]


def test_its_weights_are_those_of_the_appended_zero_exactly():
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).normal(size=6))
    want = jax.nn.softmax(jnp.append(x, 0.0))[:-1]
    # A logarithm, an exponential and sums of 7 terms.
    np.testing.assert_allclose(_weights(x), want, rtol=16 * 2**-53)


def test_large_and_small_scores_neither_overflow_nor_mislead():
  """Subtracting max x = -200 alone, the 1 would be exp(200) = inf."""
  x = jnp.full(3, -200.0)
  np.testing.assert_array_equal(_weights(x), 0)
  np.testing.assert_array_equal(jax.jacobian(_weights)(x), 0)
  np.testing.assert_allclose(_weights(-x), 1 / 3, rtol=1e-6)


def test_runs_of_queries_change_the_cost_alone():
  """300 positions are two runs of queries; 8 are one."""
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=(1, 300, 1, 4)) for _ in "qkv")
  mask = np.arange(300)[None] != 7
  visible = np.tril(np.ones((300, 300), bool)) & mask
  for name, sink in (("softmax", None), ("softmax_off_by_one", 0.0)):
    with jax.enable_x64(True):
      mixed = jax.jit(
        lambda q, k, v, name=name: mixing.make(name).apply(
          {}, q, k, v, causal=True, mask_bs=jnp.asarray(mask)
        )
      )(q, k, v)
    want = references_mixing.softmax({}, q[0], k[0], v[0], visible, sink=sink)
    # Sums of 300 terms.
    np.testing.assert_allclose(
      mixed.values_bthk[0], want, rtol=0, atol=316 * 2**-53 * abs(v).max()
    )


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


# ----- Who computes it -----


def _calls(monkeypatch, **options):
  """What a kernel is given in place of the reference, on a GPU with cuDNN."""
  seen = []

  def kernel(q, k, v, causal, scale):
    seen.append((causal, scale))
    return v

  cudnn = dataclasses.replace(
    attention.OP.candidates[0], function=kernel, supports=dispatch.anywhere
  )
  op = dataclasses.replace(
    attention.OP, candidates=(cudnn, attention.OP.candidates[-1])
  )
  monkeypatch.setattr(attention.api, "OP", op)
  impl = options.pop("impl", None)
  given = {"causal": True, "weights": False} | options
  mixed = mixing.make("softmax", impl=impl).apply({}, *_qkv(), **given)
  return seen, mixed


def test_a_kernel_runs_by_its_name_and_gives_no_weights(monkeypatch):
  seen, mixed = _calls(monkeypatch, impl="cudnn", scale=0.5)
  assert seen == [(True, 0.5)]
  assert mixed.first_token_mass_h is None
  assert not _calls(monkeypatch)[0]  # No chip has proved it.
  monkeypatch.setattr(dispatch.proved, "missing", lambda *_: None)
  assert _calls(monkeypatch)[0] == [(True, None)]


@pytest.mark.parametrize(
  ("options", "reason"),
  [
    ({"weights": True}, "has no weights for probes"),
    ({"mask_bs": jnp.ones((2, 6), bool)}, "has no masks"),
    ({"scale": jnp.ones(2)}, "has no factor per head"),
    ({"logit_cap": 30.0}, "has no logit_cap"),
  ],
)
def test_what_only_the_reference_can_is_a_reason(monkeypatch, options, reason):
  monkeypatch.setattr(dispatch.proved, "missing", lambda *_: None)
  assert not _calls(monkeypatch, **options)[0]
  with pytest.raises(dispatch.UnsupportedError, match=f"cudnn: {reason}"):
    _calls(monkeypatch, impl="cudnn", **options)
  several = _calls(monkeypatch, impl=["cudnn", "reference"], **options)
  assert not several[0]


def test_attention_asks_for_weights_where_activations_are_captured(
  monkeypatch,
):
  layer = Attention(8, 2, mixing="softmax(impl='cudnn')", rngs=nnx.Rngs(0))
  x = jnp.ones((1, 4, 8))
  _calls(monkeypatch, impl="cudnn")  # Puts the kernel in place.
  assert layer(x).shape == x.shape
  with pytest.raises(dispatch.UnsupportedError, match="weights for probes"):
    nnx.capture(layer, nnx.Intermediate)(x)


def test_an_unknown_implementation_names_its_key_and_what_there_is():
  config = configure.load("configs/default.py")
  wrong = configure.override(config, {"model.mixing": "softmax(impl='cuda')"})
  message = "^model.mixing=.*no implementation 'cuda'; known: cudnn, flash_tpu"
  with pytest.raises(errors.UserError, match=message):
    build.model(wrong, "tokens", {"vocab_size": 7}, nnx.Rngs(0))
  with pytest.raises(errors.UserError, match="no implementation 5; known"):
    mixing.make("softmax", impl=5)
  assert mixing.make("softmax", impl=()).options["impl"] is None


def test_what_ran_is_recorded():
  with dispatch.recording() as ran:
    jax.eval_shape(
      lambda *qkv: mixing.make("softmax").apply({}, *qkv, causal=True), *_qkv()
    )
  assert ran == {"attention": ["reference"]}
