"""Projection to the first norm, and what it leaves alone."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import optim
from normjax.optim import nap
from tests.contracts import optimizer_contract


def small_tree():
  return optimizer_contract.small_tree()


def walk(tx, params, steps, seed=1):
  """The parameters after each of the steps with normal gradients, stacked."""

  def step(carry, gradients):
    params, state = carry
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    return (params, state), params

  rng = np.random.default_rng(seed)
  history = jax.tree.map(
    lambda w: rng.normal(size=(steps, *w.shape)).astype(w.dtype), params
  )
  return jax.jit(
    lambda params, history: jax.lax.scan(
      step, (params, tx.init(params)), history
    )[1]
  )(params, history)


def follow(tx, params, steps):
  """The parameters after the last of the steps."""
  return jax.tree.map(lambda w: w[-1], walk(tx, params, steps))


def norm(w, axis=None):
  return np.sqrt(np.sum(np.float64(w) ** 2, axis=axis))


# A norm of 192 float32 terms, and an entry's rounding in w + (P - w): the
# last projection's, because nothing is carried from one to the next.
EXACT = 2.0**-24 * (8 + 4)


@pytest.mark.parametrize(
  ("inner", "steps"),
  [
    (optax.adam(1e-2), 1000),
    (optax.sgd(0.1, momentum=0.9), 200),
    (optim.lion(1e-2), 200),
  ],
)
def test_norms_stay_for_a_thousand_steps(inner, steps):
  params = small_tree()
  params = {key: params[key] for key in ("attention", "embed", "mlp")}
  end = follow(optim.normalize_and_project(inner), params, steps)
  for pick in (
    lambda p: p["mlp"]["kernel"],
    lambda p: p["attention"]["query"]["kernel"],
  ):
    np.testing.assert_allclose(norm(pick(end)), norm(pick(params)), rtol=EXACT)
    assert norm(pick(end) - pick(params)) > 0.1 * norm(pick(params))
  embed = end["embed"]["embedding"], params["embed"]["embedding"]
  assert abs(norm(embed[0]) / norm(embed[1]) - 1) > 1e-3


def test_units():
  params = small_tree()
  tx = optim.normalize_and_project(optax.adam(1e-2), per="unit")
  end = follow(tx, params, 100)
  for pick, axis in (
    (lambda p: p["mlp"]["kernel"], 0),
    (lambda p: p["attention"]["query"]["kernel"], 0),
  ):
    expected = norm(pick(params), axis)
    np.testing.assert_allclose(norm(pick(end), axis), expected, rtol=EXACT)


def test_stacked_layers_have_a_norm_each():
  params = {
    "layers": {
      "mlp": {"kernel": jnp.stack([jnp.ones((3, 4)), 2 * jnp.ones((3, 4))])}
    }
  }
  end = follow(optim.normalize_and_project(optax.adam(1e-2)), params, 10)
  kernel, first = (
    end["layers"]["mlp"]["kernel"],
    params["layers"]["mlp"]["kernel"],
  )
  np.testing.assert_allclose(
    norm(kernel, (1, 2)), norm(first, (1, 2)), rtol=EXACT
  )


def test_zero_weights_stay_zero():
  params = {"kernel": jnp.zeros((3, 4))}
  end = follow(optim.normalize_and_project(optax.adam(1e-2)), params, 5)
  assert not end["kernel"].any()


@pytest.mark.parametrize("every", [3, jnp.int32(3)])
def test_every(every):
  params = {"kernel": jnp.ones((3, 4))}
  tx = optim.normalize_and_project(optax.adam(1e-2), every=every)
  kernels = walk(tx, params, 7)["kernel"]
  off = [abs(norm(w) / np.sqrt(12) - 1) > EXACT for w in kernels]
  assert off == [True, True, False, True, True, False, True]


def test_traced_every_is_one_program():
  params = {"kernel": jnp.ones((3, 4))}
  traces = []

  @jax.jit
  def step(every):
    traces.append(1)
    tx = optim.normalize_and_project(optax.sgd(0.1), every=every)
    return tx.update(params, tx.init(params), params)[0]

  # A step along the weights: away with the projection, kept without.
  assert np.abs(step(jnp.int32(1))["kernel"]).max() < 2e-7
  np.testing.assert_allclose(step(jnp.int32(2))["kernel"], -0.1, rtol=1e-6)
  assert len(traces) == 1


def norm_layer():
  return {
    "mlp": {"kernel": jnp.ones((4, 4)), "bias": jnp.zeros(4)},
    "norm": {"scale": jnp.ones(4), "bias": jnp.zeros(4)},
  }


def test_vectors_are_left_alone_by_default():
  params = norm_layer()
  plain = follow(optax.adam(1e-2), params, 20)
  for vectors in ("none", "normalize", "decay"):
    tx = optim.normalize_and_project(
      optax.adam(1e-2), vectors=vectors, vector_decay=0.1
    )
    end = follow(tx, params, 20)
    same = np.allclose(end["norm"]["scale"], plain["norm"]["scale"], atol=1e-6)
    assert same == (vectors == "none")
    # A bias without a gain is no norm's.
    np.testing.assert_allclose(
      end["mlp"]["bias"], plain["mlp"]["bias"], atol=1e-6
    )


def test_vectors_are_normalized_together():
  tx = optim.normalize_and_project(optax.adam(1e-2), vectors="normalize")
  end = follow(tx, norm_layer(), 300)["norm"]
  joint = np.hypot(norm(end["scale"]), norm(end["bias"]))
  np.testing.assert_allclose(joint, 2.0, rtol=EXACT)
  assert norm(end["bias"]) > 0.01


def test_vectors_decay_to_their_first_values():
  params = norm_layer()
  tx = optim.normalize_and_project(
    optax.sgd(0.0), vectors="decay", vector_decay=0.1
  )
  state = tx.init(params)
  moved = jax.tree.map(lambda w: w + 1, params)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, state, moved)
  for leaf in ("scale", "bias"):
    np.testing.assert_allclose(updates["norm"][leaf], -0.1, rtol=1e-6)
  assert not updates["mlp"]["bias"].any()


@pytest.mark.parametrize("vectors", ["normalize", "decay"])
def test_tree_map_params_knows_the_vectors(vectors):
  tx = optim.normalize_and_project(optax.adam(1e-2), vectors=vectors)
  state = tx.init(norm_layer())
  doubled = optax.tree.map_params(tx, lambda leaf: leaf + 1, state)
  assert jax.tree.structure(doubled) == jax.tree.structure(state)


def test_what_a_chain_after_it_would_do():
  """Scaling after the projection moves the weights off their norms."""
  params = {"kernel": jnp.ones((3, 4))}
  wrong = optax.chain(
    optim.normalize_and_project(optax.scale_by_adam()), optax.scale(-0.5)
  )
  drift = norm(follow(wrong, params, 5)["kernel"]) / np.sqrt(12) - 1
  assert abs(drift) > 0.01


def test_extra_args_reach_the_inner():
  w = {"kernel": jnp.ones((3, 4))}
  tx = optim.normalize_and_project(optim.normalized_logistic_gd(1.0))
  updates, _ = tx.update(w, tx.init(w), w, mean_residual=0.5)
  assert np.isfinite(updates["kernel"]).all()


def test_params_are_needed():
  w = {"kernel": jnp.ones((3, 4))}
  tx = optim.normalize_and_project(optax.sgd(1.0))
  with pytest.raises(ValueError, match="needs params"):
    tx.update(w, tx.init(w))


def test_describe():
  assert optim.describe("nap_adamw", norm_layer()) == {
    "mlp/bias": "adamw",
    "mlp/kernel": "adamw, projected",
    "norm/bias": "adamw",
    "norm/scale": "adamw",
  }


def test_docstring_example():
  finder = doctest.DocTestFinder(recurse=False)
  function = optim.normalize_and_project
  (example,) = finder.find(function, "", module=nap, globs={})
  assert doctest.DocTestRunner().run(example).failed == 0
