import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.nn import mixing
from normjax.nn.mixing.inverse import newton_inverse
from normjax.nn.mixing.soft import gaussian_kernel
from tests.contracts import mixing_contract
from tests.nn import references_mixing
from tests.nn.test_mixing import Case


def _kernel(size=16, seed=0):
  x = np.random.default_rng(seed).normal(size=(size, 4))
  return references_mixing.gaussian(x, x)


def test_newton_equals_solve():
  p = np.stack([_kernel(seed=seed) for seed in range(3)])
  condition = np.linalg.cond(p).max()
  assert 10 < condition < 1000
  want = np.linalg.solve(p, np.eye(16))
  with jax.enable_x64(True):
    got = jax.jit(newton_inverse, static_argnums=1)(jnp.asarray(p), 30)
    # n u condition, relative to the largest entry.
    atol = 16 * 2**-53 * condition**2 * np.abs(want).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)
  single = newton_inverse(jnp.asarray(p, jnp.float32), 20)
  np.testing.assert_allclose(
    single, want, rtol=0, atol=16 * 2**-24 * condition * np.abs(want).max()
  )


def test_its_backward_is_that_of_the_exact_inverse():
  p = _kernel(8)
  weight = np.random.default_rng(1).normal(size=p.shape)
  with jax.enable_x64(True):
    p, weight = jnp.asarray(p), jnp.asarray(weight)
    got = jax.grad(lambda p: jnp.sum(weight * newton_inverse(p, 40)))(p)
    want = jax.grad(
      lambda p: jnp.sum(weight * jnp.linalg.solve(p, jnp.eye(8)))
    )(p)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * abs(want).max())


def test_an_identity_is_inverted():
  """From 2 / max(row sum)^2, the official start, it would end at 0."""
  np.testing.assert_allclose(
    newton_inverse(jnp.eye(4), 20), np.eye(4), atol=1e-6
  )


def test_a_singular_kernel_stays_finite():
  """Equal landmarks, of a flat image: the ridge is for the plain form."""
  x = jnp.ones((1, 8, 2, 4))
  for normalize in (True, False):
    method = mixing.make("soft", normalize=normalize)
    params = method.init(jax.random.key(0), 2, 4)

    @jax.jit
    @jax.value_and_grad
    def loss(x, method=method, params=params):
      return jnp.sum(method.apply(params, x, x, x, causal=False).values_bthk)

    value, gradient = loss(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_the_kernel_is_one_for_equal_rows_and_never_above():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 8)), jnp.float32)
  kernel = gaussian_kernel(100 * x, 100 * x)
  assert kernel.max() <= 1
  small = np.asarray(gaussian_kernel(x, x))
  # |x|^2 near 8 rounds with 8 x 16 u.
  np.testing.assert_allclose(np.diagonal(small), 1, atol=256 * 2**-24)


def test_the_normalized_form_with_all_tokens_is_bounded():
  """|D^-1/2 N D^-1/2| scales with the row sums; the plain form does not."""
  rng = np.random.default_rng(0)
  q = jnp.asarray(0.3 * rng.normal(size=(1, 32, 1, 4)), jnp.float32)
  size = {}
  for normalize in (True, False):
    method = mixing.make("soft", normalize=normalize, landmarks="mean", ratio=4)
    mixed = method.apply({}, q, q, jnp.ones_like(q), causal=False)
    size[normalize] = float(jnp.abs(mixed.values_bthk).mean())
  # Near-equal tokens: K is all ones, and the plain form sums 32 values.
  assert size[True] < size[False] / 4


def test_landmarks_of_a_grid_are_squares():
  method = mixing.make("soft", grid=(2, 4), num_iterations=30)
  case = Case(method, references_mixing.soft, amplification=1e3)
  arrays = mixing_contract.inputs(case)
  got = mixing_contract.run(case, False, arrays, np.float64)
  mixing_contract.close(case, got, mixing_contract.truth(case, False, arrays))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"ratio": 3}, "8 tokens are not a multiple of ratio=3"),
    ({"grid": (4, 4)}, "8 tokens are no grid=.* of 16; no class token"),
  ],
)
def test_token_counts_that_do_not_fit(options, message):
  method = mixing.make("soft", landmarks="mean", **options)
  x = jnp.ones((1, 8, 2, 4))
  with pytest.raises(errors.UserError, match=message):
    method.apply({}, x, x, x, causal=False)


def test_the_causal_error_names_alternatives():
  x = jnp.ones((1, 8, 2, 4))
  with pytest.raises(errors.UserError, match="has no causal form.*'softmax'"):
    mixing.make("soft").apply({}, x, x, x, causal=True)
