"""How large x may be, and what is beyond: the docstring of `moments`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contracts import norm_values
from tests.norms import cases

SHAPE = (4, 3, 2, 16)
LARGEST = float(np.finfo(np.float32).max)
# What is not finite beyond the range: where infinities meet, and where the
# window of earlier batches is divided by.
NOT_FINITE = {
  "unified_norm": {"dx"},
  "evonorm_b1": {"y", "dx", "params"},
  "evonorm_s0": {"params"},
  "switchable_norm": {"params"},
}

# A sum of fourth powers of x, whose range is the root of that of squares.
FOURTH_POWERS = {"penalty"}

with_statistics = [
  case
  for case in cases.default_cases()
  if case.norm.traits.statistics != "none"
]


@pytest.mark.parametrize("case", with_statistics, ids=str)
def test_range(case):
  """All is right up to sqrt(max / n); beyond, y is the offset or right too."""
  norm = case.norm
  variables, x = norm_values.inputs(norm, SHAPE)
  # Of the size that squares are summed up in: no mean may hide the overflow.
  x *= np.sqrt(LARGEST / x.size) / np.abs(x).max()
  x = np.float64(np.float32(0.99 * x))
  variables = norm_values.rounded(variables)
  given = norm_values.to(jnp.float32, variables)

  @jax.jit
  def step(x):
    weight = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    return norm_values.gradient(norm)(given, x, weight)

  _, (y, stats) = step(jnp.asarray(x, jnp.float32))
  expected, expected_stats = norm_values.as_float64(norm, variables, x)
  bound = 4 * norm_values.tolerance(x)
  norm_values.assert_close(y, expected, bound)
  for name, value in stats.items():
    if name in FOURTH_POWERS:
      continue
    norm_values.assert_close(value, expected_stats[name], bound)

  (params, dx, grad_stats), (y, stats) = step(jnp.asarray(1e3 * x, jnp.float32))
  values = {"y": y, "dx": dx, "params": params}
  missing = {
    name
    for name, value in values.items()
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value))
  }
  assert missing == NOT_FINITE.get(norm.name, set())
  finite = "dx" not in missing
  if finite and np.any(dx):
    # A norm that squares nothing has no such limit: what it gives is right.
    expected, _ = norm_values.as_float64(norm, variables, 1e3 * x)
    norm_values.assert_close(y, expected, bound)
  elif finite:
    # Nothing of x is left.
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:1, :1, :1], SHAPE))
  for leaf in jax.tree.leaves((stats, grad_stats)):
    assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
  "case",
  [case for case in with_statistics if case.norm.traits.statistics == "batch"],
  ids=str,
)
def test_a_batch_that_is_lost_leaves_the_running_statistics(case):
  """In both passes: the next batch finds them as they were."""
  norm = case.norm
  variables = norm.init(SHAPE[1:])
  step = jax.jit(
    lambda x: norm_values.gradient(norm)(variables, x, jnp.ones(SHAPE))
  )
  for value in (1e25, np.nan, np.inf):
    if norm.name == "cn" and np.isfinite(value):
      continue  # Its group norm makes exact zeros of constant images.
    x = jnp.full(SHAPE, value).at[0].set(-1)
    (_, _, grad_stats), (_, stats) = step(x)
    for leaf in jax.tree.leaves((grad_stats, stats)):
      assert np.isfinite(leaf).all()
    for name in {"mean", "std", "var", "running_var"} & set(stats):
      if not (name == "mean" and np.isfinite(value)):
        np.testing.assert_array_equal(stats[name], variables["stats"][name])
