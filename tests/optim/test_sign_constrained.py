import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import errors, optim

SHAPES = {"kernel_ee": (4, 5), "gain_i": (3,), "bias": (5,), "kernel": (4, 5)}
CONSTRAINED = ("kernel_ee", "gain_i")


def _tree(seed, size=0.1):
  rng = np.random.default_rng(seed)
  return {
    "layers": {
      name: jnp.asarray(size * rng.normal(size=shape), jnp.float32)
      for name, shape in SHAPES.items()
    }
  }


def _start():
  return jax.tree.map(jnp.abs, _tree(0))


def _leaves(tree):
  return {name: np.asarray(leaf) for name, leaf in tree["layers"].items()}


def _run(tx, steps=6):
  params, states = _start(), []
  state = tx.init(params)
  for step in range(steps):
    updates, state = tx.update(_tree(step + 1, 1.0), state, params)
    params = optax.apply_updates(params, updates)
    states.append(_leaves(params))
  return states


def test_equals_the_steps_of_the_official_optimizer():
  """SGD, then the clamp, leaf by leaf; in float64."""
  learning_rate, momentum, decay = 0.05, 0.9, 0.01
  got = _run(optim.ei_sgd(learning_rate, momentum, weight_decay=decay))
  for name in SHAPES:
    w = _leaves(_start())[name].astype(np.float64)
    buffer = None
    for step, after in enumerate(got):
      d = _leaves(_tree(step + 1, 1.0))[name] + decay * w
      buffer = d if buffer is None else buffer
      buffer = momentum * buffer + d
      w = w - learning_rate * buffer
      if name in CONSTRAINED:
        w = np.maximum(w, 0)
      # Six steps whose terms are at most 10 in float32.
      np.testing.assert_allclose(after[name], w, atol=6 * 10 * 2**-24)
  assert (got[-1]["kernel_ee"] == 0).any()
  assert (got[-1]["bias"] < 0).any()


def test_the_first_step_is_a_plain_one_and_momentum_more():
  params, gradient = _start(), jax.tree.map(jnp.abs, _tree(1))
  tx = optim.ei_sgd(1e-3, 0.9, weight_decay=0.0)
  updates, _ = tx.update(gradient, tx.init(params), params)
  # Two roundings.
  np.testing.assert_allclose(
    updates["layers"]["bias"], -1.9e-3 * gradient["layers"]["bias"], rtol=2e-7
  )


@pytest.mark.parametrize("inner", [optax.sgd(0.3), optim.adamw(0.3)])
def test_chosen_leaves_never_fall_below_zero(inner):
  constrained, free = _run(optim.sign_constrained(inner)), _run(inner)
  for name in SHAPES:
    for after in constrained:
      assert (after[name].min() >= 0) == (name in CONSTRAINED), name
    assert free[-1][name].min() < 0
  # Others move as if there were no constraint.
  np.testing.assert_array_equal(constrained[-1]["bias"], free[-1]["bias"])


def test_leaves_are_chosen_by_rules_trees_and_none():
  inner = optax.sgd(0.3)
  rules = optim.by_path([(".*/bias", True), (".*", False)])
  tree = jax.tree.map(lambda _: False, _start())
  tree["layers"]["bias"] = True
  for chosen in (rules, tree):
    (after,) = _run(optim.sign_constrained(inner, chosen), 1)
    assert after["bias"].min() == 0
    assert after["kernel_ee"].min() < 0
  (after,) = _run(optim.sign_constrained(inner, None), 1)
  assert min(leaf.min() for leaf in after.values()) == 0


def test_bad_masks_are_named():
  with pytest.raises(errors.UserError, match="non_negative='all'; allowed"):
    optim.sign_constrained(optax.sgd(0.1), "all").init(_start())
  with pytest.raises(errors.UserError, match="non_negative has no entry for"):
    optim.ei_sgd(0.1, non_negative={}).init(_start())


def test_described_by_what_is_constrained():
  updates = optim.describe("ei_sgd", _start())
  assert updates["layers/gain_i"] == "ei_sgd (>= 0)"
  assert updates["layers/bias"] == "ei_sgd"
