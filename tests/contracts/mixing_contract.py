"""What every mixing method must do; `tests/nn/test_mixing.py` runs it on all.

A subclass is parametrized by `case`: `.mixing`, `.reference` (a float64 NumPy
transcription of one example), `.options` of `apply`, `.kv_heads`, and
`.amplification`: how far the method blows up a relative rounding of its inputs.

Tolerances. With u the unit roundoff, sums of at most n = 64 terms have a
relative error of n u, and the rest of a method a few u, times amplification.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.nn import mixing as mixing_lib
from normjax.nn import rotary
from tests.contracts import norm_values

HEADS, HEAD_DIM = 4, 4
LENGTH = 8


@functools.cache
def jitted(mixing, causal, options, rotated):
  """The compiled method: (params, q, k, v, mask) to values."""

  def turn(x):
    positions = jnp.arange(x.shape[1])
    table = rotary.table(positions, x.shape[-1], 10_000.0, x.dtype)
    return rotary.rotate(x, table)

  return jax.jit(
    lambda params, q, k, v, mask=None: (
      mixing.apply(
        params,
        q,
        k,
        v,
        causal=causal,
        mask_bs=mask,
        rotate=turn if rotated else None,
        **dict(options),
      ).values_bthk
    )
  )


def inputs(case, length=LENGTH, batch=2, seed=0):
  """Float64 NumPy parameters off their start, q, k, v."""
  rng = np.random.default_rng(seed)
  params = jax.tree.map(
    lambda leaf: np.float64(leaf) + rng.uniform(0.1, 0.5, leaf.shape),
    case.mixing.init(jax.random.key(0), HEADS, HEAD_DIM),
  )

  def draw(heads):
    return rng.normal(size=(batch, length, heads, HEAD_DIM))

  return params, draw(HEADS), draw(case.kv_heads), draw(case.kv_heads)


def run(case, causal, arrays, dtype, mask=None, rotated=False):
  """The compiled method in `dtype`, as float64 NumPy."""
  function = jitted(case.mixing, causal, tuple(case.options.items()), rotated)
  with jax.enable_x64(dtype == np.float64):
    y = function(*jax.tree.map(lambda a: jnp.asarray(a, dtype), arrays), mask)
    assert y.dtype == dtype
    return np.asarray(y, np.float64)


def truth(case, causal, arrays, mask=None, rotated=False):
  """The transcription, example by example."""
  params, q, k, v = arrays
  t, s = q.shape[1], k.shape[1]
  visible = np.tril(np.ones((t, s), bool)) if causal else np.ones((t, s), bool)
  options = {**case.mixing.options, **case.options}
  if rotated:
    options["rotated"] = True
  return np.stack(
    [
      case.reference(
        params,
        q[b],
        k[b],
        v[b],
        visible if mask is None else visible & mask[b],
        **options,
      )
      for b in range(len(q))
    ]
  )


def close(case, actual, expected, dtype=np.float64):
  """Within the bound of the module's docstring."""
  bound = (64 + 16) * float(jnp.finfo(dtype).eps) / 2 * case.amplification
  np.testing.assert_allclose(
    actual, expected, rtol=0, atol=bound * max(1.0, np.abs(expected).max())
  )


def directions(case):
  """The values of `causal` that the method allows."""
  traits = case.mixing.traits
  return [True] * traits.causal + [False] * traits.bidirectional


class MixingContract:
  """The contract; a subclass parametrizes `case`."""

  def test_equals_the_transcription(self, case):
    arrays = inputs(case)
    for causal in directions(case):
      for rotated in {False, case.mixing.traits.rotation == "features"}:
        expected = truth(case, causal, arrays, rotated=rotated)
        actual = run(case, causal, arrays, np.float64, rotated=rotated)
        close(case, actual, expected)

  def test_low_precision(self, case):
    """Bfloat16 in and out: inside, float32 is at most float32."""
    params, *qkv = inputs(case)
    qkv = [np.float64(jnp.asarray(a, jnp.bfloat16)) for a in qkv]
    params = jax.tree.map(lambda a: np.float64(np.float32(a)), params)
    for causal in directions(case)[:1]:
      expected = truth(case, causal, (params, *qkv))
      single = run(case, causal, (params, *qkv), jnp.float32)
      close(case, single, expected, np.float32)
      function = jitted(case.mixing, causal, tuple(case.options.items()), False)
      narrow = function(
        jax.tree.map(jnp.float32, params),
        *(jnp.asarray(a, jnp.bfloat16) for a in qkv),
      )
      assert narrow.dtype == jnp.bfloat16
      # Weights, at most one, and the result are rounded to bfloat16.
      bound = 2 * 2**-8 * max(1.0, np.abs(qkv[2]).max(), np.abs(expected).max())
      np.testing.assert_allclose(
        np.float64(narrow), expected, rtol=0, atol=bound
      )

  def test_gradients(self, case):
    """Against central differences, h = 1e-5: h^2 f''' / 6 is near 1e-9."""
    arrays = inputs(case, length=4, batch=1, seed=1)
    weight = np.random.default_rng(2).normal(size=arrays[1].shape)
    for causal in directions(case):
      function = jitted(case.mixing, causal, tuple(case.options.items()), False)
      with jax.enable_x64(True):
        actual = jax.jit(
          jax.grad(
            lambda *arrays, f=function: jnp.sum(weight * f(*arrays)),
            argnums=(0, 1, 2, 3),
          )
        )(*jax.tree.map(jnp.asarray, arrays))
        actual = jax.tree.map(np.asarray, actual)
      expected = norm_values.central_differences(
        lambda *arrays, c=causal: np.sum(weight * truth(case, c, arrays)),
        arrays,
      )
      norm_values.assert_close(actual, expected, 1e-8 * case.amplification)

  def test_the_future_does_not_show(self, case):
    if not case.mixing.traits.causal:
      with pytest.raises(errors.UserError, match="has no causal form"):
        run(case, True, inputs(case), np.float64)
      return
    params, q, k, v = inputs(case)
    before = run(case, True, (params, q, k, v), np.float64)
    q, k, v = (a.copy() for a in (q, k, v))
    for array in (q, k, v):
      array[:, 5:] = 3.0
    after = run(case, True, (params, q, k, v), np.float64)
    np.testing.assert_array_equal(after[:, :5], before[:, :5])
    assert np.abs(after[:, 5:] - before[:, 5:]).max() > 1e-3

  def test_masked_keys_do_not_show(self, case):
    params, q, k, v = inputs(case)
    mask = np.arange(LENGTH) < np.array([[LENGTH], [5]])
    for causal in directions(case):
      y = run(case, causal, (params, q, k, v), np.float64, mask)
      expected = truth(case, causal, (params, q, k, v), mask)
      close(case, y[mask], expected[mask])
      hidden = mask[..., None, None]
      others = [np.where(hidden, a, 7.0) for a in (q, k, v)]
      other = run(case, causal, (params, *others), np.float64, mask)
      np.testing.assert_array_equal(other[mask], y[mask])

  def test_an_example_of_padding_is_finite(self, case):
    arrays = inputs(case)
    mask = np.array([[True] * LENGTH, [False] * LENGTH])
    for causal in directions(case):
      assert np.isfinite(run(case, causal, arrays, np.float32, mask)).all()

  def test_grouped_queries_are_repeated_keys(self, case):
    if not case.mixing.traits.grouped_queries:
      pytest.skip("has no grouped queries; attention refuses them")
    params, q, k, v = inputs(case)
    k, v = k[:, :, :2], v[:, :, :2]
    repeated = [np.repeat(a, 2, axis=2) for a in (k, v)]
    for causal in directions(case):
      grouped = run(case, causal, (params, q, k, v), np.float64)
      full = run(case, causal, (params, q, *repeated), np.float64)
      close(case, grouped, full)

  def test_parameters_are_float32(self, case):
    params = case.mixing.init(jax.random.key(0), HEADS, HEAD_DIM)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))

  def test_is_a_value(self, case):
    method = case.mixing
    norm_values.is_a_value(
      method, lambda: mixing_lib.make(method.name, **method.options)
    )
