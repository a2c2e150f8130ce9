"""AdaB2N with tasks: weights, absent tasks, masks; `test_official` has more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from normjax.nn import given, variables
from normjax.nn.linen import LinenNorm
from normjax.nn.norm_layer import NormLayer
from normjax.norms.adab2n import Tasks

X = np.random.default_rng(0).normal(size=(6, 2, 3, 4)) + 1


def _batch(of_example, current, mask=None, x=X, psi=(0.0, 0.0, 0.0), **options):
  """Mean and variance that enter the running ones, in float64."""
  norm = norms.make("adab2n", num_tasks=3, kappa=0.0, **options)
  with jax.enable_x64(True):
    variables = norm.init((4,), jnp.float64)
    variables["params"]["task_weight"] = jnp.asarray(psi)
    context = Tasks(jnp.asarray(of_example), jnp.asarray(current))
    # The first rate of kappa = 0 is 1: the running statistics are the batch's.
    _, stats = jax.jit(norm.apply)(
      variables, jnp.asarray(x), mask=mask, context=context
    )
    return np.asarray(stats["mean"]), np.asarray(stats["var"])


def _weighted(weights, x=X):
  mean = np.einsum("b,byxc->c", weights, x) / 6
  return mean, np.einsum("b,byxc->c", weights, (x - mean) ** 2) / 6


def test_tasks_of_a_batch_are_weighed_by_counts_and_parameters():
  psi = (0.5, -0.5, 9.0)
  share = np.exp(psi[:2]) + np.array([4, 2])
  share /= share.sum()
  weights = np.array([share[0] / 4] * 4 + [share[1] / 2] * 2)
  found = _batch([0, 0, 0, 0, 1, 1], 1, psi=psi)
  np.testing.assert_allclose(found, _weighted(weights), rtol=1e-12)


@pytest.mark.parametrize("renormalize", [False, True])
def test_an_absent_task(renormalize):
  """Its weight is lost, as in the official code, or shared out."""
  found = _batch([1] * 6, 1, renormalize=renormalize)
  whole = 1.0 if renormalize else 7 / 8
  expected = _weighted(np.full(6, whole / 6))
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_with_large_parameters_tasks_weigh_alike():
  found = _batch([0, 1, 1, 1, 1, 1], 1, psi=(30.0, 30.0, 0.0))
  weights = np.array([0.5] + [0.1] * 5)
  np.testing.assert_allclose(found, _weighted(weights), rtol=1e-10)


def test_the_first_task_is_a_plain_batch():
  found = _batch([0] * 6, 0, psi=(3.0, 0.0, 0.0))
  np.testing.assert_allclose(found, _weighted(np.full(6, 1 / 6)), rtol=1e-12)


def test_a_task_that_is_not_yet_seen_has_no_weight():
  found = _batch([0, 0, 0, 0, 1, 2], 1)
  share = np.array([5, 2]) / 7
  weights = np.array([share[0] / 4] * 4 + [share[1], 0])
  np.testing.assert_allclose(found, _weighted(weights), rtol=1e-12)


@pytest.mark.parametrize("current", [0, 1])
def test_a_mask_of_examples_is_as_if_they_were_not_there(current):
  tasks = np.array([0, 0, 0, 0, 1, 1]) * current
  mask = jnp.asarray([1, 1, 0, 1, 1, 0])
  kept = np.flatnonzero(mask)
  x = np.where(np.asarray(mask)[:, None, None, None] > 0, X, np.nan)
  hidden = _batch(tasks, current, mask, x=x)
  np.testing.assert_allclose(
    hidden, _batch(tasks[kept], current, x=X[kept]), rtol=1e-12
  )


def test_a_mask_of_pixels():
  mask = jnp.ones((6, 2, 3)).at[:, 0].set(0)
  found = _batch([0, 0, 0, 1, 1, 1], 1, mask)
  rows = _batch([0, 0, 0, 1, 1, 1], 1, x=X[:, 1:])
  np.testing.assert_allclose(found, rows, rtol=1e-12)


def test_a_layer_takes_what_is_given_by_its_name():
  structure, held = variables.split(NormLayer("adab2n", (4,)))
  x = jnp.asarray(X, jnp.float32)
  tasks = Tasks(jnp.asarray([0, 0, 0, 0, 1, 1]), jnp.asarray(1))

  @jax.jit
  def called(tasks):
    layer = variables.merge(structure, held)
    with (
      given.context({"adab2n": tasks, "cn": "another's"}),
      given.context({"dsbn": "kept apart"}),
    ):
      return layer(x), layer(x, context=tasks), layer(x, train=False)

  within, beside, _ = called(tasks)
  np.testing.assert_array_equal(within, beside)
  layer = variables.merge(structure, held)
  assert given.to(layer.norm) is None
  assert np.abs(layer(x) - within).max() > 1e-3


def test_a_linen_layer_takes_it_too():
  layer = LinenNorm("adab2n")
  x = jnp.asarray(X, jnp.float32)
  held = layer.init(jax.random.key(0), x)
  tasks = Tasks(jnp.asarray([0, 0, 0, 0, 1, 1]), jnp.asarray(1))
  with given.context({"adab2n": tasks}):
    within, _ = layer.apply(held, x, mutable="batch_stats")
  beside, _ = layer.apply(held, x, context=tasks, mutable="batch_stats")
  plain, _ = layer.apply(held, x, mutable="batch_stats")
  np.testing.assert_array_equal(within, beside)
  assert np.abs(plain - within).max() > 1e-3


@pytest.mark.parametrize(
  ("context", "said"),
  [
    (3, r"Tasks\(of_example, current\)"),
    ((jnp.zeros(6, int), 0, 0), r"Tasks\(of_example, current\)"),
    ((jnp.zeros(5, int), 0), r"\(6,\) integers"),
    ((jnp.zeros(6), 0), "integers"),
    ((jnp.zeros(6, int), jnp.zeros(2, int)), "one integer"),
  ],
)
def test_a_context_that_is_none(context, said):
  norm = norms.make("adab2n")
  with pytest.raises(errors.UserError, match=said):
    norm.apply(norm.init((4,)), jnp.asarray(X, jnp.float32), context=context)


@pytest.mark.parametrize(
  "option",
  [
    {"kappa": 1.5},
    {"num_tasks": 0},
    {"momentum": 1.0},
    {"momentum": 0.0},
    {"renormalize": 1},
  ],
)
def test_options_out_of_range(option):
  (name,) = option
  with pytest.raises(errors.UserError, match=f"adab2n: {name}="):
    norms.make("adab2n", **option)
