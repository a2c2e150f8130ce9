"""BHyT's bound, its small output and the variance that sites hand on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from normjax.nn.norm_layer import NormLayer
from tests import support


def heavy_tails(rng, d, share):
  """Tokens far from normal; the last has as many spikes as the bound allows."""
  cauchy = rng.standard_cauchy((50, d))
  lognormal = rng.lognormal(sigma=3, size=(50, d))
  spikes = np.zeros((1, d))
  spikes[:, : int(np.ceil(d * share)) - 1] = 1.0
  return np.concatenate([cauchy, lognormal, spikes])


@pytest.mark.parametrize("lam", [1.0, 3.0])
@pytest.mark.parametrize(("kappa", "share"), [(10.0, 0.01), (4.0, 1 / 16)])
def test_99_percent_of_a_token_is_off_saturation(lam, kappa, share):
  """|y| <= tanh(lam) for all but 1 / kappa^2 of the features."""
  norm = norms.make("bhyt", lam_init=lam, kappa=kappa)
  with jax.enable_x64(True):
    x = heavy_tails(np.random.default_rng(0), 1010, share)
    y, _ = jax.jit(norm.apply)(norm.init((1010,)), jnp.asarray(x))
  beyond = (np.abs(y) > np.tanh(lam)).mean(-1)
  assert (beyond < share).all()
  assert beyond[-1] > 0.98 * share, "the bound is nearly reached"


@pytest.mark.parametrize(("lam", "rms"), [(1, 0.099), (2, 0.193), (3, 0.277)])
def test_the_output_is_small(lam, rms):
  """Against the integral of tanh(lam z / kappa)^2 over a normal z.

  The mean square of 4e5 draws is off by sqrt(2 / 4e5) of it, the root by half
  of that.
  """
  norm = norms.make("bhyt", lam_init=lam)
  x = 7 * support.normal(400, 1000)
  y, _ = jax.jit(norm.apply)(norm.init((1000,)), x)
  z, weight = np.polynomial.hermite_e.hermegauss(60)
  integral = np.sqrt(weight @ np.tanh(lam * z / 10) ** 2 / weight.sum())
  assert abs(integral - rms) < 6e-4
  measured = np.sqrt(np.mean(np.float64(y) ** 2))
  assert abs(measured / integral - 1) < 5 * np.sqrt(2 / 4e5) / 2


@functools.partial(jax.jit, static_argnames=("lam", "causal"))
def attention_block(lam, causal):
  """(s_2^2 handed on, exact mean square at the second site), of each token.

  A block x + A(norm(x)) W with uniform attention A, W a product of normal
  value and output matrices that is large enough to matter.
  """
  t, d, k = 32, 128, 64
  x = 2 * support.normal(32, t, d)
  w_value = support.normal(d, k, seed=1)
  w_out = support.normal(k, d, seed=2) * 1.5 / lam
  weights = jnp.tril(jnp.ones((t, t))) if causal else jnp.ones((t, t))
  weights /= weights.sum(-1, keepdims=True)
  layer = NormLayer({"name": "bhyt", "lam_init": lam}, (d,))
  branch_gain = jnp.sum((w_value @ w_out) ** 2) / (t * d)
  second = x + weights @ (layer(x) @ w_value @ w_out)
  exact = jnp.mean(second**2, -1, keepdims=True)
  return layer.context_for_next(x, branch_gain=branch_gain), exact


# Three standard errors of the branch's mean square. It is that of a vector of
# about k / (1 + 2 k / d) = 32 free directions, in 32 sequences, the same one
# for all tokens of a sequence.
SPREAD = 3 * np.sqrt(2 / 32 / 32)


@pytest.mark.parametrize("lam", [1.0, 2.0])
def test_the_handed_on_variance_is_near_the_exact_one_at_init(lam):
  """Uniform attention over independent normal tokens.

  The branch's variance is about 1.4 times that of x, which is 4. tanh takes
  3% (lam = 1) or 7% (lam = 2) off the variance lam^2 / kappa^2.
  """
  handed_on, exact = attention_block(lam, causal=False)
  assert handed_on.shape == exact.shape == (32, 32, 1)
  assert 1 < (np.mean(handed_on) - 4) / 4 < 2
  assert abs(np.mean(handed_on) / np.mean(exact) - 1) < 0.07 + SPREAD


def test_under_a_causal_mask_early_tokens_have_more():
  """Token i averages over i + 1 tokens and not over all t."""
  handed_on, exact = attention_block(1.0, causal=True)
  ratio = np.mean(exact / handed_on, axis=(0, 2))
  assert ratio[0] > 10
  assert abs(ratio[-1] - 1) < 0.03 + SPREAD


def test_the_second_site_takes_what_it_is_given():
  norm = norms.make("bhyt", eps=0.5, kappa=4.0, lam_init=2.0)
  held = norm.init((16,))
  x = support.normal(2, 3, 16)
  given = jnp.arange(1.0, 7.0).reshape(2, 3, 1)
  y, _ = norm.apply(held, x, context=given)
  expected = np.tanh(2 / 4 * x / np.sqrt(given + 0.5))
  np.testing.assert_allclose(y, expected, rtol=0, atol=8 * 2**-24)
  own = np.mean(np.square(x), -1, keepdims=True)
  np.testing.assert_allclose(
    norm.context_for_next(held, x, branch_gain=3.0),
    own + 3 * 2**2 / 4**2,
    rtol=24 * 2**-24,
  )


def test_the_gradient_of_what_is_handed_on_is_that_of_the_mean_square():
  """Nothing reaches lam and the weights, as in the official code."""
  norm = norms.make("bhyt")
  x = support.normal(3, 16)

  def total(params, x, branch_gain):
    return jnp.sum(
      norm.context_for_next({"params": params}, x, branch_gain=branch_gain)
    )

  params, dx, gain = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(
    norm.init((16,))["params"], x, 3.0
  )
  assert all((leaf == 0).all() for leaf in jax.tree.leaves((params, gain)))
  np.testing.assert_allclose(dx, 2 * x / 16, rtol=4 * 2**-24)


def test_the_second_site_has_no_reduction_of_its_own():
  norm = norms.make("bhyt")
  held, x = norm.init((16,)), jnp.ones((2, 3, 16))

  def reductions(context):
    jaxpr = jax.make_jaxpr(lambda x, c: norm.apply(held, x, context=c)[0])
    return str(jaxpr(x, context)).count("reduce_sum")

  assert reductions(None) == 1
  assert reductions(jnp.ones((2, 3, 1))) == 0


def test_statistics_of_bfloat16_are_handed_on_in_float32():
  norm = norms.make("bhyt")
  x = jnp.full((2, 16), 1.01, jnp.bfloat16)
  handed_on = norm.context_for_next(norm.init((16,)), x, branch_gain=0.0)
  assert handed_on.dtype == jnp.float32
  np.testing.assert_allclose(
    handed_on, np.float64(x[:, :1]) ** 2, rtol=24 * 2**-24
  )
  y, _ = norm.apply(norm.init((16,)), x, context=handed_on)
  assert y.dtype == jnp.bfloat16


def test_what_does_not_fit_is_refused():
  handed_on = norms.make("bhyt")
  exact = norms.make("bhyt", variance="exact")
  held, x = exact.init((16,)), jnp.ones((2, 3, 16))
  assert exact.context_for_next(held, x, branch_gain=1.0) is None
  with pytest.raises(errors.UserError, match="variance='handed_on'"):
    exact.apply(held, x, context=jnp.ones((2, 3, 1)))
  with pytest.raises(errors.UserError, match=r"\(2, 3, 1\)"):
    handed_on.apply(held, x, context=jnp.ones((2, 3)))
  with pytest.raises(errors.UserError, match="scalar"):
    handed_on.context_for_next(held, x, branch_gain=jnp.ones(2))


@pytest.mark.parametrize(
  "options",
  [{"lam_init": 0}, {"kappa": 0}, {"eps": 0}, {"variance": "approximate"}],
)
def test_bad_options_are_named(options):
  with pytest.raises(errors.UserError, match=next(iter(options))):
    norms.make("bhyt", **options)
