"""Normalized gradient descent, and that of logistic regression."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import configure, errors, optim
from normjax.optim import logistic
from tests.contracts import optimizer_contract
from tests.optim import cases

TABLE = configure.load_module("configs/papers/normalized_lr_gd.py")


@pytest.mark.parametrize(
  "case", [cases.case("normalized_gd").at({})], ids=["tree"]
)
class TestWholeTree(optimizer_contract.OptimizerContract):
  """The contract with one norm of the whole tree; the table has leaves'."""


def tree(scale):
  return {
    "kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]) * jnp.float32(scale),
    "bias": jnp.array([0.0, 12.0]) * jnp.float32(scale),
    "rest": jnp.zeros(3),
  }


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1.0, 1e30, 1e36])
def test_norms(scale):
  g = tree(scale)
  for per, kernel, bias in (("tree", 13.0, 13.0), ("leaf", 5.0, 12.0)):
    tx = optim.scale_by_gradient_norm(per=per)
    u, _ = tx.update(g, tx.init(g))
    expected = tree(1.0)
    rtol = 1e-6  # A peak, three squares, a root and two quotients.
    np.testing.assert_allclose(
      u["kernel"], expected["kernel"] / kernel, rtol=rtol
    )
    np.testing.assert_allclose(u["bias"], expected["bias"] / bias, rtol=rtol)
    assert not u["rest"].any()


def test_a_zero_gradient_moves_nothing_where_optax_gives_nan():
  zero = tree(0.0)
  for per in ("tree", "leaf"):
    for eps in (0.0, 1e-6):
      tx = optim.scale_by_gradient_norm(eps, per=per)
      assert optimizer_contract.all_zero(tx.update(zero, tx.init(zero))[0])
  theirs = optax.contrib.normalize()
  updates, _ = theirs.update(zero, theirs.init(zero))
  assert np.isnan(updates["kernel"]).any()


def test_eps_is_added_to_the_norm():
  g = tree(1.0)
  tx = optim.scale_by_gradient_norm(13.0)
  u, _ = tx.update(g, tx.init(g))
  np.testing.assert_allclose(u["bias"], [0.0, 12 / 26], rtol=1e-6)


# Table 1 of arXiv:2412.08424, the worst case.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
  ("rate", "expected"), [(100.0, 2), (10.0, 2), (1.0, 16), (0.1, 157)]
)
def test_worst_case(rate, expected, dtype):
  with jax.enable_x64(dtype == "float64"):
    assert TABLE.num_steps(optim.normalized_logistic_gd(rate)) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_worst_case_of_plain_gradient_descent(dtype):
  plain = optax.with_extra_args_support(optax.sgd(100.0))
  with jax.enable_x64(dtype == "float64"):
    assert TABLE.num_steps(plain) == 308


def test_mean_residual():
  z, y = jnp.array([0.0, 50.0, 2.0]), jnp.array([1, 1, -1])
  expected = (0.5 + 1 / (1 + np.exp(50.0)) + 1 / (1 + np.exp(-2.0))) / 3
  np.testing.assert_allclose(optim.mean_residual(z, y), expected, rtol=1e-6)


def test_a_missing_residual_is_named():
  w = jnp.ones(2)
  tx = optim.normalized_logistic_gd(1.0)
  with pytest.raises(errors.UserError, match=r"mean_residual=r.*logits"):
    tx.update(w, tx.init(w), w)
  with pytest.raises(errors.UserError, match=r"shape \(2,\).*a scalar"):
    tx.update(w, tx.init(w), w, mean_residual=w)
  updates, _ = tx.update(w, tx.init(w), w, mean_residual=0.0)
  assert not updates.any()


def test_docstring_example():
  finder = doctest.DocTestFinder(recurse=False)
  function = optim.normalized_logistic_gd
  (example,) = finder.find(function, "", module=logistic, globs={})
  assert doctest.DocTestRunner().run(example).failed == 0
