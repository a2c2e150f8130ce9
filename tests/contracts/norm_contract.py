"""What every norm must do; `tests/norms/test_contract.py` runs it on all.

A subclass is parametrized by `case`: a `.norm`; a `.reference`, a float64
NumPy transcription; and where the gradient is not the derivative, a
`.backward`, a transcription too. Bounds are those of `norm_values`.
"""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from normjax import errors
from tests.contracts.norm_values import (
  CHANNELS,
  SHAPES,
  as_float64,
  assert_close,
  central_differences,
  feature_shape,
  gradient,
  held_in_float32,
  inputs,
  is_a_value,
  jitted,
  ranks,
  rounded,
  to,
  tolerance,
  truth,
)

few_examples = hypothesis.settings(
  max_examples=6, deadline=None, derandomize=True, database=None
)


class NormContract:
  """The contract; a subclass parametrizes `case`."""

  def test_init(self, case):
    for rank in ranks(case.norm):
      variables = case.norm.init(feature_shape(rank))
      assert set(variables) == {"params", "stats", "grad_stats"}
      names = [name for values in variables.values() for name in values]
      assert len(names) == len(set(names)), "one name in two collections"
      assert held_in_float32(variables)
    narrow = case.norm.init(feature_shape(4), jnp.bfloat16)
    for leaf in jax.tree.leaves(narrow.pop("params")):
      assert leaf.dtype == jnp.bfloat16
    assert held_in_float32(narrow)
    for shape in (16, (), (0,), (4, -1)):
      with pytest.raises(errors.UserError, match="feature shape"):
        case.norm.init(shape)

  def test_is_a_value(self, case):
    is_a_value(case.norm, case.make)

  def test_equals_reference_in_float64(self, case):
    given = {rank: inputs(case.norm, SHAPES[rank]) for rank in ranks(case.norm)}

    @jax.jit
    def every(given):
      """All in one program: much of compiling is per program."""
      return {
        rank: [case.norm.apply(*each, train=train) for train in (True, False)]
        for rank, each in given.items()
      }

    with jax.enable_x64(True):
      results = jax.device_get(every(jax.tree.map(jnp.asarray, given)))
    for rank, (variables, x) in given.items():
      for actual, train in zip(results[rank], (True, False), strict=True):
        assert actual[0].dtype == np.float64
        expected = truth(case, variables, x, train=train)
        assert_close(actual, expected, tolerance(x, np.float64))

  @pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
  def test_statistics_in_float32(self, case, dtype):
    """Low precision in and out costs the rounding of y and nothing else."""
    shape = SHAPES[4]
    variables, x = inputs(case.norm, shape)
    # The mean is large against the spread: bfloat16 statistics would be off
    # by more than the rounding of y.
    x = np.asarray(jnp.asarray(x + 8, dtype), np.float64)
    variables = rounded(variables)
    y, stats = jitted(case.norm)(to(jnp.float32, variables), to(dtype, x))
    expected_y, expected_stats = truth(case, variables, x)
    assert y.dtype == dtype
    assert y.shape == shape
    assert held_in_float32({"stats": stats})
    # The mean of x is 8 times its spread, hence 8^2 in the statistics' error.
    error = 64 * tolerance(x)
    assert_close(stats, expected_stats, error)
    np.testing.assert_allclose(
      np.asarray(y, np.float64),
      expected_y,
      rtol=float(jnp.finfo(dtype).eps) / 2 if dtype != jnp.float32 else 0,
      atol=error * np.abs(expected_y).max(),
    )

  def test_large_offset(self, case):
    """Data of mean 1e4 and spread 1 keep the two-pass bound.

    The mean is off by at most dm = n u max|x|. With a spread above 1/2, y is
    then off by at most 2 dm, by |y| (2 dm)^2 / 2 through the variance, and by
    the usual roundings. E[x^2] - E[x]^2 would be off by n u 1e8, far more
    than the variance: a norm that declares it must miss the bound. n is the
    number of values of one statistic.
    """
    norm = case.norm
    variables, x = inputs(norm, SHAPES[4])
    x = np.float64(np.float32(x + 1e4))
    variables = rounded(variables)
    y, _ = jitted(norm)(to(jnp.float32, variables), to(jnp.float32, x))
    expected, _ = truth(case, variables, x)
    length = {"none": 1, "per_example": CHANNELS, "batch": x.size // CHANNELS}
    if norm.traits.mixes_positions and norm.traits.statistics == "per_example":
      length["per_example"] = x[0].size
    mean_error = length[norm.traits.statistics] * 2**-24 * np.abs(x).max()
    # Where a mean is subtracted at all.
    mean_error *= norm.traits.shift_invariant or "mean" in variables["stats"]
    gain = max(
      [1.0, *(np.abs(p).max() for p in jax.tree.leaves(variables["params"]))]
    )
    gain += bool(norm.options.get("zero_centered"))
    bound = (2 * mean_error + np.abs(expected) * 2 * mean_error**2) * gain
    bound += tolerance(x) * np.abs(expected).max()
    within = (np.abs(np.float64(y) - expected) <= bound).all()
    assert within != norm.traits.one_pass

  def test_gradients(self, case):
    """Against the float64 truth.

    Where there is no transcription of the backward pass, that is by central
    differences. With step h = 1e-5 the truncation h^2 f'''/6 is near 1e-9 and
    the rounding u |f| / h near 1e-10, times the sum's length.
    """
    norm = case.norm
    shape = (3, 2, 2, 4) if norm.traits.mixes_positions else (3, 4, 4)
    variables, x = inputs(norm, shape, seed=1)
    weight = np.random.default_rng(2).normal(size=shape)
    # Exact in bfloat16, which the cotangent of a bfloat16 y is rounded to.
    x, weight = (np.float64(jnp.asarray(a, jnp.bfloat16)) for a in (x, weight))

    if case.backward is None:
      assert not variables["grad_stats"], "no reference of the backward pass"

      def loss(params, x):
        changed = {**variables, "params": params}
        return np.sum(weight * truth(case, changed, x)[0])

      expected = central_differences(loss, (variables["params"], x))
      expected, error = (*expected, {}), 1e-7
    else:
      of = case.backward(variables, x, weight, mask=None, **norm.options)
      expected = (of["params"], of["x"], of["grad_stats"])
      # Sums of products twice as long as those of the forward pass.
      error = 4 * tolerance(x, np.float64)

    compiled = jax.jit(lambda *arguments: gradient(norm)(*arguments)[0])
    with jax.enable_x64(True):
      actual = compiled(*to(jnp.float64, (variables, x, weight)))
      actual = jax.tree.map(np.asarray, actual)
    assert_close(actual, expected, error)

    @jax.jit
    def both(held, wide, narrow):
      """In float32, and of a bfloat16 x: one program compiles sooner."""
      return [gradient(norm)(held, *arrays)[0] for arrays in (wide, narrow)]

    single, (params, dx, grad_stats) = both(
      to(jnp.float32, variables),
      to(jnp.float32, (x, weight)),
      to(jnp.bfloat16, (x, weight)),
    )
    for leaf in jax.tree.leaves(single):
      assert leaf.dtype == jnp.float32
    # The gradient divides by the spread, at least 1/4 here, once more.
    bound = 4 * tolerance(x)
    assert_close(single, actual, bound)

    # A bfloat16 x costs the rounding of its gradient, once.
    assert dx.dtype == jnp.bfloat16
    assert_close((params, grad_stats), (actual[0], actual[2]), bound)
    np.testing.assert_allclose(
      np.float64(dx),
      actual[1],
      rtol=float(jnp.finfo(jnp.bfloat16).eps) / 2,
      atol=bound * max(1.0, np.abs(actual[1]).max()),
    )

  @few_examples
  @hypothesis.given(
    scale=st.floats(0.1, 10.0),
    shift=st.floats(-100.0, 100.0),
    seed=st.integers(0, 100),
  )
  def test_declared_invariances(self, case, scale, shift, seed):
    """Values near 1e3 leave eps <= 0.1 a relative part below 1e-5.

    (1e-5 with scale 0.1: eps / (2 * (0.1 * 1e3)^2) = 5e-6.) Outside the root
    that takes eps <= 1e-3: eps / (0.1 * 1e3) = 1e-5.
    """
    norm = case.norm
    variables, x = inputs(norm, SHAPES[4], seed)
    x = 1e3 * x
    y, _ = as_float64(norm, variables, x)
    if norm.traits.scale_invariant:
      assert_close(as_float64(norm, variables, scale * x)[0], y, 1e-5 * 4)
    if norm.traits.shift_invariant:
      assert_close(as_float64(norm, variables, x + shift)[0], y, 1e-10)

  def test_traits_are_exact(self, case):
    """What a norm does not declare, it does not have.

    Examples that mix, and training that differs from evaluation, show in y or
    in the new statistics.
    """
    norm, traits = case.norm, case.norm.traits
    variables, x = inputs(norm, SHAPES[4])
    y, stats = as_float64(norm, variables, x)

    def differs(other):
      return bool(np.abs(other - y).max() > 1e-3)

    def differ(one, other):
      leaves = jax.tree.map(lambda a, b: np.abs(a - b).max(), one, other)
      return max(jax.tree.leaves(leaves), default=0) > 1e-3

    def apply(x, train=True):
      return as_float64(norm, variables, x, train=train)[0]

    if not traits.scale_invariant:
      # Twice x may be an outlier, which some norms pass through as it is.
      assert differs(apply(2 * x)) or differs(apply(x / 2))
    if not traits.shift_invariant:
      assert differs(apply(x + 1))
    evaluated, kept = as_float64(norm, variables, x, train=False)
    moved = differ(kept, stats)
    assert (differs(evaluated) or moved) == traits.needs_train_flag

    others = x.copy()
    others[1:] = 2 * others[1:] + 1
    other_y, other_stats = as_float64(norm, variables, others)
    mixes = np.abs(other_y - y)[0].max() > 1e-3 or differ(other_stats, stats)
    assert mixes == (traits.statistics == "batch")
    channel = x.copy()
    channel[..., 0] += 1
    alone = np.array_equal(apply(channel)[..., 1:], y[..., 1:])
    assert alone or traits.statistics != "none"

    between = apply(0.3 * x + 0.7 * others, train=False)
    line = 0.3 * apply(x, train=False) + 0.7 * apply(others, train=False)
    assert (np.abs(between - line).max() < 1e-10) == traits.foldable

  def test_evaluation_keeps_statistics(self, case):
    variables, x = inputs(case.norm, SHAPES[4])
    variables, x = to(jnp.float32, (variables, x))
    _, stats = jitted(case.norm, train=False)(variables, x)
    jax.tree.map(np.testing.assert_array_equal, stats, variables["stats"])
    if variables["grad_stats"]:

      def loss(grad_stats):
        held = {**variables, "grad_stats": grad_stats}
        return jnp.sum(case.norm.apply(held, x, train=False)[0] ** 3)

      # What overwrites them is what they are.
      new = jax.jit(jax.grad(loss))(variables["grad_stats"])
      jax.tree.map(np.testing.assert_array_equal, new, variables["grad_stats"])

  def test_mask(self, case):
    """Real tokens, or images, come out as if the others were not there.

    `norm_masks` has more.
    """
    norm = case.norm
    mask = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1] + [0] * 5])
    if norm.traits.mixes_positions:
      mask = mask[:, 0] * np.array([1, 0, 1])
      shape = (3, *SHAPES[4][1:])
    else:
      shape = (*mask.shape, CHANNELS)
    variables, x = inputs(norm, shape)
    mask = mask.astype(bool)
    padded = np.where(
      mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 1e6
    )
    packed = x[mask] if norm.traits.mixes_positions else x[mask][None]
    y, stats = as_float64(norm, variables, padded, mask)
    expected, expected_stats = truth(case, variables, packed)
    bound = tolerance(x, np.float64)
    assert_close(y[mask].reshape(expected.shape), expected, bound)
    assert_close(stats, expected_stats, bound)
    with pytest.raises(errors.UserError, match="mask"):
      norm.apply(variables, jnp.asarray(x), mask=jnp.ones(len(x) + 1))

  def test_wrong_input(self, case):
    norm = case.norm
    variables = norm.init(feature_shape(4))
    wrong = jnp.ones((*SHAPES[4][:-1], CHANNELS + 1))
    # A norm whose parameters are scalars cannot tell.
    if any(
      leaf.shape == (CHANNELS,) for leaf in jax.tree.leaves(variables["params"])
    ):
      with pytest.raises((TypeError, ValueError)):
        norm.apply(variables, wrong)
