"""Hyperparameters as arrays: optax.inject_hyperparams, and counts."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import errors, optim
from tests.contracts.optimizer_contract import (
  assert_trees_close,
  gradients_like,
  small_tree,
)
from tests.optim import cases

# Options that decide on shapes, and a value.
STATIC = {
  "rank": 4,
  "rank_percent": 50,
  "block_size": 64,
  "min_size": 16,
  "bits": 8,
  "max_precond_dim": 8,
  "min_dim_size_to_factor": 8,
}


def _options(name):
  return inspect.signature(optim.REGISTRY.get(name)).parameters


def _is_int(value):
  return isinstance(value, int) and not isinstance(value, bool)


def _tiny_tree():
  rng = np.random.default_rng(0)
  return {
    "mlp": {
      "kernel": jnp.asarray(rng.normal(size=(6, 4)), jnp.float32),
      "bias": jnp.asarray(rng.normal(size=4), jnp.float32),
    }
  }


@pytest.mark.parametrize("name", optim.names())
def test_needs_nothing_but_a_learning_rate(name):
  params = small_tree()
  injected = optax.inject_hyperparams(optim.REGISTRY.get(name))(
    learning_rate=0.01
  )
  state = jax.eval_shape(injected.init, params)
  updates, new_state = jax.eval_shape(injected.update, params, state, params)
  assert updates == jax.eval_shape(lambda: params)
  assert new_state == state


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
def test_equals_the_plain_optimizer(case):
  """Also, two rates are one program."""
  params = _tiny_tree()
  gradients = gradients_like(params)
  make = optim.REGISTRY.get(case.name)
  injected = optax.inject_hyperparams(make)(learning_rate=0.01)
  state = injected.init(params)
  traces = []

  @jax.jit
  def update(gradients, state, params):
    traces.append(1)
    tx = make(learning_rate=0.01)
    expected, _ = tx.update(gradients, tx.init(params), params)
    return injected.update(gradients, state, params), expected

  (actual, new_state), expected = update(gradients, state, params)
  # A decay such as 0.999 is rounded when it becomes an array: 1 - b2 has a
  # relative error of 6e-5, and so has the bias correction.
  tolerance = max(case.rounding, 1e-4)
  assert_trees_close(actual, expected, tolerance, tolerance * 0.01)
  assert jax.eval_shape(lambda: state) == jax.eval_shape(lambda: new_state)
  rates = state.hyperparams
  rates["learning_rate"] = jnp.zeros_like(rates["learning_rate"])
  (still, _), _ = update(gradients, state, params)
  assert not any(np.any(u) for u in jax.tree.leaves(still))
  assert len(traces) == 1


@pytest.mark.parametrize("name", optim.names())
def test_counts_that_may_be_traced(name):
  """Every int of the signature is, and what is no count is refused."""
  counts = {
    key: parameter.default
    for key, parameter in _options(name).items()
    if _is_int(parameter.default)
  }
  params = small_tree()
  gradients = gradients_like(params)

  def update(counts):
    tx = optim.make(name, learning_rate=0.01, **counts)
    return tx.update(gradients, tx.init(params), params)[0]

  traced = jax.eval_shape(update, {k: jnp.int32(v) for k, v in counts.items()})
  assert traced == jax.eval_shape(lambda: params)
  for key in counts:
    for bad in (jnp.int32(-1), jnp.int32(-1).reshape(1), jnp.float32(2.5)):
      with pytest.raises((errors.UserError, TypeError), match=key):
        optim.make(name, learning_rate=0.01, **{key: bad})


@pytest.mark.parametrize(
  ("name", "count"),
  [
    (name, count)
    for name in optim.names()
    for count in STATIC
    if count in _options(name)
  ],
)
def test_static_counts(name, count):
  """None stands for a number; an array's error says what to do."""
  assert _options(name)[count].default is None
  injected = optax.inject_hyperparams(optim.REGISTRY.get(name))
  with pytest.raises(TypeError, match=rf'static_args=\("{count}",\)'):
    injected(learning_rate=0.1, **{count: STATIC[count]}).init(small_tree())
  kept = optax.inject_hyperparams(
    optim.REGISTRY.get(name), static_args=(count,)
  )(learning_rate=0.1, **{count: STATIC[count]})
  plain = optim.make(name, learning_rate=0.1, **{count: STATIC[count]})
  state = jax.eval_shape(kept.init, small_tree())
  assert state.inner_state == jax.eval_shape(plain.init, small_tree())


@pytest.mark.parametrize(
  "norms",
  [
    ("row_l2", "column_l2"),
    ("row_l2", "sign", "column_l2", "frobenius", "column_l2"),
    ("frobenius", "spectral"),
  ],
)
def test_a_traced_number_of_rounds_is_the_same(norms):
  x = _tiny_tree()

  def balanced(num_iters):
    tx = optim.scale_by_multi_norm(norms, num_iters)
    return tx.update(x, tx.init(x))[0]

  traced, unrolled = jax.jit(lambda n: (balanced(n), balanced(2)))(2)
  # The same operations, fused otherwise: each of the sums of up to 24 terms
  # and of the ten steps of slope up to 1.92 may round once more.
  assert_trees_close(traced, unrolled, rtol=0, atol=1.92**10 * 24 * 2**-24)


@pytest.mark.parametrize("case", cases.first_cases(), ids=str)
def test_no_rank_is_promoted(case):
  """Whoever forbids it in their own code can use every optimizer."""
  params = small_tree()
  with jax.numpy_rank_promotion("raise"):
    tx = case.make()
    state = jax.eval_shape(tx.init, params)
    _, new_state = jax.eval_shape(tx.update, params, state, params)
  assert new_state == state
