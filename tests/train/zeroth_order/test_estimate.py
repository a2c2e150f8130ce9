"""Zeroth order: the estimates against the formulas."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.train import leaf_by_leaf, param_dtype
from normjax.train import step as train_step
from tests import support
from tests.train.zeroth_order import cases


def _quadratic(size, text):
  """(the gradient, estimates of it by seed)."""
  recipe, state, batch, hyper = cases.own(
    cases.Point(size), text, "squared_error"
  )
  exact = train_step.backpropagate(recipe, state, batch, hyper).gradients["w"]

  def one(seed):
    found = recipe.gradient.estimate(
      recipe, state, batch, hyper | {"seed": seed}
    )
    return leaf_by_leaf.call(lambda tree: tree["w"], found.gradients)

  return np.asarray(exact, np.float64), jax.jit(jax.vmap(one))


# Means over so many seeds: the squared error of the mean estimate is d + 1
# times |g|^2 over their number, here (1.5 %)^2; of the second moment, whose
# relative variance is below 10, (1.6 %)^2.
NUM_SEEDS, DIM = 40_000, 8


@pytest.mark.parametrize("sign", [False, True])
def test_moments_of_an_estimate(sign):
  """E[(z.g) z] = g, E|.|^2 = (d + 2)|g|^2; of signs sqrt(2/pi) g/|g| and d."""
  exact, estimates = _quadratic(DIM, f"zeroth_order(sign={sign})")
  found = np.asarray(estimates(jnp.arange(NUM_SEEDS)), np.float64)
  length = np.linalg.norm(exact)
  want = math.sqrt(2 / math.pi) * exact / length if sign else exact
  second = DIM if sign else (DIM + 2) * length**2
  error = np.linalg.norm(found.mean(0) - want) / np.linalg.norm(want)
  assert error < 0.03
  moment = np.mean(np.sum(found**2, axis=1))
  np.testing.assert_allclose(moment, second, rtol=0.03)


def test_directions_are_averaged():
  """Of q the variance is a q-th, here of (d + 1)|g|^2."""
  exact, estimates = _quadratic(DIM, "zeroth_order(num_directions=4)")
  found = np.asarray(estimates(jnp.arange(10_000)), np.float64)
  spread = np.mean(np.sum((found - exact) ** 2, axis=1))
  want = (DIM + 1) * np.sum(exact**2) / 4
  np.testing.assert_allclose(spread, want, rtol=0.05)


def _softmax_loss(params, batch):
  """Of a linear classifier with one hidden layer of ReLUs, float64."""
  w = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  x = np.asarray(batch["inputs"], np.float64).reshape(len(batch["targets"]), -1)
  hidden = x @ w["layers"]["0"]["kernel"] + w["layers"]["0"]["bias"]
  hidden = np.maximum(hidden, 0)
  logits = hidden @ w["head"]["kernel"] + w["head"]["bias"]
  logits -= logits.max(-1, keepdims=True)
  losses = (
    np.log(np.exp(logits).sum(-1))
    - np.take_along_axis(logits, np.asarray(batch["targets"])[:, None], -1)[
      :, 0
    ]
  )
  return losses.mean()


@pytest.mark.parametrize(
  "derivative",
  ["two_sided", pytest.param("one_sided", marks=pytest.mark.slow)],
)
def test_a_step_of_sgd_is_the_papers(derivative):
  """Of a config, against float64: w - rate g z, z by its formula."""
  eps = 0.02
  config = support.tiny_mlp(
    cases.SGD,
    {
      "train.gradient": f"zeroth_order(derivative={derivative!r})",
      "train.perturbation_eps": eps,
      "norm.name": "identity",
    },
  )
  given = cases.setup(config)
  (first, moved), (row,) = cases.steps(*given)
  z = cases.z_of(first.params)

  def loss(t):
    return _softmax_loss(
      jax.tree.map(lambda w, z: np.float64(w) + t * z, first.params, z),
      given[2],
    )

  at_w = loss(0.0)
  if derivative == "two_sided":
    slope = (loss(eps) - loss(-eps)) / (2 * eps)
    logged = (loss(eps) + loss(-eps)) / 2
  else:
    slope, logged = (loss(eps) - at_w) / eps, at_w
  # Losses near 3 in float32 are off by some 2^-22: their difference over eps.
  found = jax.tree.map(lambda a, b: (a - b) / 1e-3, first.params, moved.params)
  atol = 2.0**-20 / eps
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(z), strict=True):
    # What is left of w - rate g z at weights below 1.
    np.testing.assert_allclose(
      a, slope * b, rtol=0, atol=4 * atol + 2.0**-23 / 1e-3
    )
  np.testing.assert_allclose(row["loss"], logged, rtol=1e-5)
  norm = abs(slope) * np.sqrt(sum((b**2).sum() for b in jax.tree.leaves(z)))
  np.testing.assert_allclose(row["grad_norm"], norm, rtol=atol / abs(slope))


def test_forward_is_the_directional_derivative():
  """Though the norms have rules for reverse mode alone."""
  found = cases.slopes("zeroth_order(derivative='forward')")
  want = sum(cases.directional().values())
  np.testing.assert_allclose(list(found.values()), want, rtol=1e-4)


def test_two_sided_is_its_limit():
  found = cases.slopes("zeroth_order", eps=1e-3)
  # Losses near 1.5 are off by 2^-23, over eps: 1e-4 of slopes near 1.
  want = sum(cases.directional().values())
  np.testing.assert_allclose(list(found.values()), want, rtol=1e-3)


def test_weights_are_not_walked():
  """At rate 0 every bit stays, where +eps, -2 eps, +eps leaves errors."""
  (first, *_, last), _ = cases.steps(
    *cases.own(cases.Small(), "zeroth_order", rate=0.0), 3
  )
  cases.assert_same(first.params, last.params)
  assert last.step == 3
  w, z = np.float32(0.02) * support.normal(1000), support.normal(1000, seed=1)
  walked = ((w + 1e-3 * z) - 2e-3 * z) + 1e-3 * z
  assert (walked != w).any()


def test_both_passes_share_dropout():
  """Else the two losses differ by noise over 2 eps."""
  two = cases.slopes("zeroth_order", dropout_rate=0.5)
  limit = cases.slopes("zeroth_order(derivative='forward')", dropout_rate=0.5)
  np.testing.assert_allclose(
    list(two.values()), list(limit.values()), rtol=1e-3
  )


@pytest.mark.parametrize("first_order_layers", [0, 1])
def test_16_bits_are_moved_as_float32(first_order_layers):
  """In bfloat16 a weight is not moved by eps = 1e-3, or by far too much."""
  text = f"zeroth_order(first_order_layers={first_order_layers})"
  recipe, state, batch, hyper = cases.own(cases.Small(), text)
  narrow = param_dtype.narrow(state.params, "bfloat16")
  found, expected = (
    cases.estimate(
      recipe, state._replace(params=params), batch, hyper
    ).gradients
    for params in (narrow, param_dtype.widen(narrow))
  )
  assert {x.dtype.name for x in jax.tree.leaves(found)} == {"float32"}
  # A difference of losses near 1.4 has 2 ulps of them, over 2 eps.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
    found,
    expected,
  )
  assert max(np.abs(x).max() for x in jax.tree.leaves(found)) > 0.1


def test_conservative_never_increases_the_loss_of_the_batch():
  """On one batch, with a rate at which the plain method goes up."""
  text = "zeroth_order(derivative='one_sided', conservative={})"
  _, careful = cases.steps(
    *cases.own(cases.Small(), text.format(True), rate=1.0), 12
  )
  _, plain = cases.steps(
    *cases.own(cases.Small(), text.format(False), rate=1.0), 12
  )
  losses = [float(row["loss"]) for row in careful]
  # The same function at the same point in another loop: a few roundings.
  pairs = list(itertools.pairwise(losses))
  assert all(b <= a * (1 + 1e-6) for a, b in pairs)
  assert losses[-1] < losses[0]
  # A step that was refused moved nothing.
  refused = [row["update_norm"] == 0 for row in careful[:-1]]
  assert any(refused)
  assert all(a == b for (a, b), r in zip(pairs, refused, strict=True) if r)
  assert max(float(row["loss"]) for row in plain) > losses[0]


@pytest.mark.slow
def test_clipping_is_by_the_norm_of_the_estimate():
  _, (row,) = cases.steps(*cases.own(cases.Small(), "zeroth_order", clip=1e-2))
  assert row["grad_norm"] > 1e-2
  np.testing.assert_allclose(row["update_norm"], 1e-2 * 1e-3, rtol=1e-5)


@pytest.mark.slow
def test_micro_batches_give_the_same():
  whole, parts = (
    cases.estimate(
      *cases.own(cases.Small(), "zeroth_order", accumulation_steps=count)
    )
    for count in (1, 4)
  )
  loss = whole.metrics["loss"], parts.metrics["loss"]
  np.testing.assert_allclose(*loss, rtol=1e-6)
  for a, b in zip(
    jax.tree.leaves(whole.gradients),
    jax.tree.leaves(parts.gradients),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-3)
