"""What rounding may do to a norm; `tests/norms/test_rounding.py` runs it.

XLA computes small operands anew in each fusion, and LLVM rounds a product
there or contracts it: so compiled and eager numbers differ, and those compiled
with and without optimizations. A subclass parametrizes `case`, and a test is
compiled in both ways.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from tests.contracts import norm_values

# Groups of 12 channels, 15 pixels, 30 values of a channel: 1 / n is no float.
SHAPE = (2, 3, 5, 24)
BIAS = 0.375
CONSTANTS = (1e4, 3.3, 1234.567, -7e-3)
DTYPES = (jnp.float16, jnp.bfloat16, jnp.float32)


@contextlib.contextmanager
def compilation(optimized):
  """With XLA's optimizations or without."""
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", not optimized)
  yield
  jax.config.update("jax_disable_most_optimizations", before)


def ways(norm):
  """The norm compiled anew with and without optimizations, and eager."""
  for optimized in (True, False):
    with compilation(optimized):
      yield jax.jit(lambda variables, x: norm.apply(variables, x))
  yield norm.apply


def centers(norm):
  """Whether a mean of x is subtracted from it."""
  traits, stats = norm.traits, norm.init(SHAPE[1:])["stats"]
  return (traits.shift_invariant or "mean" in stats) and not traits.one_pass


def length(norm):
  """How many values enter a statistic, those of two stages together."""
  b, y, x, c = SHAPE
  values = c
  if norm.traits.statistics == "batch":
    values += b * y * x
  if norm.traits.mixes_positions:
    values += y * x * c
  return values


class ConstantContract:
  """What centring makes of a constant; a subclass parametrizes `case`."""

  def test_a_constant_is_the_bias(self, case):
    """Exactly, whatever its sums are rounded to.

    The mean of the batch enters the running one exactly, too; the variance is
    at most the square of a sum's rounding. What is divided by statistics from
    before has no such promise, nor has a one-pass variance.
    """
    norm = case.norm
    if not centers(norm):
      return
    variables = norm.init(SHAPE[1:])
    params = {
      name: jnp.full_like(value, BIAS) if "bias" in name else value
      for name, value in variables["params"].items()
    }
    expected = BIAS if any("bias" in name for name in params) else 0
    held = {**variables, "params": params}
    for apply in ways(norm):
      for dtype in DTYPES:
        for constant in CONSTANTS:
          x = jnp.full(SHAPE, constant, dtype)
          y, stats = apply(held, x)
          np.testing.assert_array_equal(y, expected, f"{constant} {dtype}")
          self._check_running(norm, variables["stats"], stats, float(x.max()))

  def _check_running(self, norm, old, new, constant):
    if "mean" not in new:
      return
    options = norm.options
    rate = options.get("update_rate", 1 - options.get("momentum", 1))
    allowed = 4 * 2**-24
    if norm.name == "adab2n":
      # A rate that is computed: 1 minus it is rounded, by at most half a unit
      # of the numbers below 1, and that 1 is taken off again.
      allowed += 2**-25 / rate
    # Groups have made the constant 0 before the running mean sees it.
    seen = 0 if norm.name == "cn" else constant
    np.testing.assert_allclose(new["mean"], rate * seen, rtol=allowed)
    if "var" in new and not norm.options.get("estimated"):
      spread = (length(norm) * 2**-24 * constant) ** 2
      np.testing.assert_allclose(
        new["var"],
        (1 - rate) * old["var"],
        rtol=allowed,
        atol=rate * spread,
      )


class RoundingContract:
  """What is within bounds; a subclass parametrizes `case`.

  It has the fixtures `sensitivity`, what else multiplies an error of x, and
  `bound`, what |y| is below of an x of SHAPE, or None.
  """

  def test_compiled_is_eager(self, case, sensitivity):
    """|y - y'| <= 2 c u max|x| / sqrt(var + eps), with c = n + 16.

    Each is off by half of it: a sum of n terms by n u times the largest, root,
    product, gain and offset by a few u more, and what a mean is off by is
    divided by the root. Here every root is above 1/2, and every gain below
    3/2. Both are rounded to the dtype of x.
    """
    norm = case.norm
    if norm.traits.one_pass:
      return
    variables, x = norm_values.inputs(norm, SHAPE)
    variables = norm_values.to(jnp.float32, variables)
    x += 300.0
    for dtype in (jnp.bfloat16, jnp.float32):
      given = jnp.asarray(x, dtype)
      results = [apply(variables, given) for apply in ways(norm)]
      largest = float(jnp.abs(given).max())
      allowed = 2 * (length(norm) + 16) * 2**-24 * largest * sensitivity
      allowed *= 1.5 / 0.5
      for y, stats in results[:-1]:
        eager, kept = results[-1]
        assert np.isfinite(y).all()
        np.testing.assert_allclose(
          np.float64(y),
          np.float64(eager),
          rtol=float(jnp.finfo(dtype).eps) if dtype != jnp.float32 else 0,
          atol=allowed,
        )
        # A mean square and a variance: the square of |x| at most.
        norm_values.assert_close(
          stats, kept, 2 * (length(norm) + 16) * 2**-24 * largest
        )

  def test_no_output_is_above_its_bound(self, case, bound):
    """sqrt(n - 1) where a mean is subtracted, else sqrt(n); n u more.

    Of one outlier among zeros, which reaches it, and among normal numbers, at
    the initial gain 1 and offset 0.
    """
    norm = case.norm
    if bound is None:
      return
    variables = norm.init(SHAPE[1:])
    zeros = np.zeros(SHAPE)
    normal = np.random.default_rng(0).normal(size=SHAPE)
    for apply in list(ways(norm))[:2]:
      for background in (zeros, normal, normal + 1e3):
        for dtype in (jnp.float16, jnp.float32):
          x = np.array(background)
          x[0, 1, 2, 3] = 6e4
          y, _ = apply(variables, jnp.asarray(x, dtype))
          most = float(jnp.abs(y.astype(jnp.float32)).max())
          rounding = float(jnp.finfo(dtype).eps) / 2
          rounding += (length(norm) + 16) * 2**-24
          assert most <= bound * (1 + rounding)
          assert most >= 0.9 * bound or background is not zeros
