"""What every norm of weights must do; `tests/norms/test_weights.py` runs it.

A subclass is parametrized by `case`: a `.weight_norm`, and `.reference`, a
float64 NumPy transcription.

Tolerances. With u the unit roundoff, sums over a filter of n weights have a
relative error below n u, those over all of them in a matrix below size u, and
the rest is a few u: (size + 16) u times the largest value. Subtracting the
mean, or turning a vector that a matrix shrinks, may lose a factor 8.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.norms import weights
from tests.contracts import norm_values

# Dense, and convolutions: of two inputs a group, and depthwise.
SHAPES = ((6, 3), (3, 3, 2, 4), (3, 3, 1, 5))


@functools.cache
def jitted(weight_norm, train=True):
  """The compiled norm: (variables, kernel) to (kernel, stats)."""
  return jax.jit(
    lambda variables, kernel: weight_norm.apply(variables, kernel, train=train)
  )


def inputs(case, shape, seed=0):
  """Float64 NumPy variables, the parameters off their start, and a kernel."""
  rng = np.random.default_rng(seed)
  kernel = rng.normal(0.3, 1.0, shape)
  with jax.enable_x64(True):
    made = case.weight_norm.init(jnp.asarray(kernel), jax.random.key(seed))
  made = jax.tree.map(np.float64, made)
  made["params"] = {
    name: value + rng.uniform(0.1, 0.5, value.shape)
    for name, value in made["params"].items()
  }
  return made, kernel


def run(case, variables, kernel, train=True, dtype=np.float64):
  """The compiled norm in `dtype`, as NumPy."""
  with jax.enable_x64(dtype == np.float64):
    arguments = jax.tree.map(
      lambda leaf: jnp.asarray(leaf, dtype), (variables, kernel)
    )
    return jax.tree.map(np.asarray, jitted(case.weight_norm, train)(*arguments))


def truth(case, variables, kernel, train=True):
  """The transcription."""
  return case.reference(variables, kernel, train, **case.weight_norm.options)


def bound(kernel, dtype):
  """That of the module's docstring."""
  return 8 * norm_values.tolerance(kernel, dtype)


class WeightNormContract:
  """The contract; a subclass parametrizes `case`."""

  @pytest.mark.parametrize("shape", SHAPES, ids=str)
  def test_equals_the_transcription(self, case, shape):
    """Three training steps of a changing kernel, then evaluation."""
    held, kernel = inputs(case, shape)
    expected_held = held
    rng = np.random.default_rng(1)
    for train in (True, True, True, False):
      actual = run(case, held, kernel, train)
      expected = truth(case, expected_held, kernel, train)
      norm_values.assert_close(actual, expected, bound(kernel, np.float64))
      held = {**held, "stats": actual[1]}
      expected_held = {**held, "stats": expected[1]}
      kernel = kernel + rng.normal(0, 0.1, shape)

  def test_low_precision(self, case):
    """Bfloat16 in and out: statistics and what is between are float32."""
    held, kernel = inputs(case, (3, 3, 2, 4))
    kernel = np.float64(jnp.asarray(kernel, jnp.bfloat16))
    held = norm_values.rounded(held)
    expected = truth(case, held, kernel)
    single = run(case, held, kernel, dtype=np.float32)
    norm_values.assert_close(single, expected, bound(kernel, np.float32))
    narrow, stats = jitted(case.weight_norm)(
      jax.tree.map(jnp.float32, held), jnp.asarray(kernel, jnp.bfloat16)
    )
    assert narrow.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(stats))
    # The same numbers, and the result rounded to eight bits.
    np.testing.assert_allclose(
      np.float64(narrow),
      expected[0],
      rtol=0,
      atol=2**-8 * np.abs(expected[0]).max(),
    )
    norm_values.assert_close(stats, expected[1], bound(kernel, np.float32))

  def test_gradients(self, case):
    """Against central differences, h = 1e-5: h^2 f''' / 6 is near 1e-9.

    The new statistics are constants: the differences are those of evaluation
    with them.
    """
    held, kernel = inputs(case, (3, 1, 2, 3), seed=1)
    weight = np.random.default_rng(2).normal(size=kernel.shape)
    with jax.enable_x64(True):

      def loss(params, stats, kernel):
        variables = {"params": params, "stats": stats}
        y, new = case.weight_norm.apply(variables, kernel)
        return jnp.sum(weight * y), new

      (dparams, dstats, dkernel), new = jax.jit(
        jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
      )(held["params"], held["stats"], kernel)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(dstats))
    frozen = {"stats": jax.tree.map(np.asarray, new)}
    expected = norm_values.central_differences(
      lambda params, kernel: np.sum(
        weight * truth(case, {"params": params, **frozen}, kernel, False)[0]
      ),
      (held["params"], kernel),
    )
    norm_values.assert_close((dparams, dkernel), expected, 1e-7)

  def test_jit_and_vmap_change_nothing(self, case):
    each = [inputs(case, (3, 3, 2, 4), seed) for seed in range(2)]
    each = [jax.tree.map(jnp.float32, one) for one in each]
    eager = [case.weight_norm.apply(*one) for one in each]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    together = jax.vmap(case.weight_norm.apply)(*stacked)
    for index, (one, expected) in enumerate(zip(each, eager, strict=True)):
      limit = bound(each[0][1], np.float32)
      picked = jax.tree.map(lambda leaf, i=index: leaf[i], together)
      norm_values.assert_close(picked, expected, limit)
      norm_values.assert_close(jitted(case.weight_norm)(*one), expected, limit)

  def test_only_training_moves_statistics(self, case):
    held, kernel = jax.tree.map(jnp.float32, inputs(case, (3, 3, 2, 4)))
    _, still = case.weight_norm.apply(held, kernel, train=False)
    jax.tree.map(np.testing.assert_array_equal, still, held["stats"])
    _, moved = case.weight_norm.apply(held, kernel + 0.5)
    shapes = [
      jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), stats)
      for stats in (moved, held["stats"])
    ]
    assert shapes[0] == shapes[1]
    for name, leaf in moved.items():
      assert np.abs(leaf - held["stats"][name]).max() > 1e-3

  def test_zero_and_constant_filters_are_finite(self, case):
    kernel = jnp.zeros((3, 3, 2, 4)).at[..., 1].set(0.7)
    held = case.weight_norm.init(kernel)

    def loss(params, kernel):
      y, stats = case.weight_norm.apply({**held, "params": params}, kernel)
      return jnp.sum(y * jnp.arange(72.0).reshape(y.shape)), (y, stats)

    for start in (kernel, jnp.zeros_like(kernel)):
      results = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        held["params"], start
      )
      for leaf in jax.tree.leaves(results):
        assert np.isfinite(leaf).all()

  def test_variables_are_wide(self, case):
    """Float32 for a bfloat16 kernel; a dict of arrays by name."""
    made = case.weight_norm.init(jnp.ones((3, 3, 2, 4), jnp.bfloat16))
    assert set(made) == {"params", "stats"}
    for values in made.values():
      for name, leaf in values.items():
        assert isinstance(name, str)
        assert leaf.dtype == jnp.float32

  def test_bad_kernels_are_named(self, case):
    name = case.weight_norm.name
    with pytest.raises(errors.UserError, match=f"{name} is for kernels with"):
      case.weight_norm.init(jnp.ones(3))
    held = case.weight_norm.init(jnp.ones((4, 3)))
    with pytest.raises(errors.UserError, match=r"got shape \(3,\)"):
      case.weight_norm.apply(held, jnp.ones(3))
    with pytest.raises(TypeError, match="need a floating x; got dtype int32"):
      case.weight_norm.apply(held, jnp.ones((4, 3), jnp.int32))

  def test_variables_of_another_kernel_are_named(self, case):
    held = case.weight_norm.init(jnp.ones((4, 3)))
    for collection, values in held.items():
      for name in values:
        message = f"needs {name!r} of shape .* in variables..{collection}.."
        without = {key: values[key] for key in values if key != name}
        with pytest.raises(errors.UserError, match=f"{message}.*got none"):
          case.weight_norm.apply(
            {**held, collection: without}, jnp.ones((4, 3))
          )
        with pytest.raises(errors.UserError, match=message):
          case.weight_norm.apply(
            {**held, collection: values | {name: jnp.ones((9,))}},
            jnp.ones((4, 3)),
          )

  def test_is_a_value(self, case):
    method = case.weight_norm
    norm_values.is_a_value(
      method, lambda: weights.make(method.name, **method.options)
    )
