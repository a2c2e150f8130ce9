"""The state of every optimizer: in others' trees, in 16 bits, after a spike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from normjax.optim import groups, safe
from tests.contracts import optimizer_states
from tests.optim import cases

_SMALL = {"block_size": 8, "min_size": 8, "keep": None}
# Leaves of the small tree that are factored, and that are held in 8 bits.
_OTHER_CASES = [
  cases.case("adafactor").at({"min_dim_size_to_factor": 4}),
  *(
    cases.case(f"{name}_8bit").at(_SMALL)
    for name in ("adam", "momentum", "lion")
  ),
]
# One for each way in which a state is made: in others all the same, slowly.
_FAST = ("adamw", "galore")
_STEPS = 300


@pytest.mark.parametrize("case", [*cases.first_cases(), *_OTHER_CASES], ids=str)
class TestStates(optimizer_states.OptimizerStates):
  """The contract, on every optimizer."""


@pytest.mark.parametrize(
  "case",
  [
    *cases.by_family(),
    *(pytest.param(case, marks=pytest.mark.slow) for case in _OTHER_CASES),
  ],
  ids=str,
)
class TestStateNumbers(optimizer_states.OptimizerStateNumbers):
  """The contract's compilations, on one of each family."""


_BY_SPEED = [
  pytest.param(
    case, marks=() if case.name in _FAST else pytest.mark.slow, id=str(case)
  )
  for case in cases.first_cases()
]


def _assert_same_squares(state, wide):
  for (path, leaf), (_, other) in zip(
    *map(groups.leaves, (state, wide)), strict=True
  ):
    if "nu" in path.split("/"):
      assert leaf.dtype == other.dtype == jnp.float32
      np.testing.assert_allclose(leaf.sum(), other.sum(), rtol=0.1)


@pytest.mark.parametrize("case", _BY_SPEED)
def test_small_gradients_in_float16(case):
  """Squares of 1e-8, of which float16 has nothing."""
  scales = [1e-4] * _STEPS
  sizes, state = optimizer_states.run_in(case, jnp.float16, scales)
  exact, wide = optimizer_states.run_in(case, jnp.float32, scales)
  # A first moment is rounded by 2^-25 at every step, by 1 / (1 - b) times that
  # in all, 20 for b = 0.95: 6e-7, which is 6% of a coordinate in a turned basis
  # that is a tenth of the entries. With nu in the parameter's dtype the steps
  # of adamw are 16 times too large.
  np.testing.assert_allclose(sizes, exact, rtol=0.1, atol=1e-7)
  _assert_same_squares(state, wide)


@pytest.mark.parametrize("case", _BY_SPEED)
def test_squares_decay_in_bfloat16(case):
  """After a spike they lose a thousandth of themselves per step."""
  scales = [2.0**7] + [1.0] * (_STEPS - 1)
  # Only squares are looked at.
  options = {k: jnp.float32 for k in ("mu_dtype",) if k in case.parameters}
  sizes, state = optimizer_states.run_in(case, jnp.bfloat16, scales, **options)
  exact, wide = optimizer_states.run_in(case, jnp.float32, scales, **options)
  # An entry of the update is rounded by 2^-9 of itself; the rest is the same
  # arithmetic in float32, compiled apart.
  np.testing.assert_allclose(sizes, exact, rtol=2.0**-7)
  _assert_same_squares(state, wide)


@pytest.mark.parametrize("x64", [False, True])
def test_clip_for_square(x64):
  """Squares stay finite, also after a bias correction; NaN and inf pass."""
  with jax.enable_x64(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    info = jnp.finfo(dtype)
    usual = jnp.asarray([0.0, -0.0, 1.5, -1e15, info.tiny], dtype)
    np.testing.assert_array_equal(safe.clip_for_square(usual), usual)
    x = safe.clip_for_square(jnp.asarray([info.max, -info.max], dtype))
    np.testing.assert_array_equal(x * x, 2.0 ** (info.maxexp - 2))
    assert x[0] == -x[1] > 0
    passing = jnp.asarray([jnp.inf, -jnp.inf, jnp.nan], dtype)
    np.testing.assert_array_equal(safe.clip_for_square(passing), passing)


@pytest.mark.parametrize("b2", [0.9, 0.999, 1 - 2.0**-20])
def test_largest_gradient_and_any_decay(b2):
  """The bias correction of optax divides by 1 - b2 as float32 has it."""
  tx = optim.scale_by_adam(b2=b2)
  w = jnp.ones(3)
  g = jnp.asarray([1.0, -1.0, 1e-30]) * jnp.finfo(jnp.float32).max
  u, state = tx.update(g, tx.init(w), w)
  assert np.isfinite(state.nu).all()
  np.testing.assert_allclose(u[:2], [1, -1], rtol=1e-1)


def test_dtype_of_second_moments_may_be_asked():
  params = {"kernel": jnp.ones((4, 6), jnp.float16)}
  state = optim.scale_by_adam(nu_dtype=jnp.bfloat16).init(params)
  assert state.nu["kernel"].dtype == jnp.bfloat16
  assert state.mu["kernel"].dtype == jnp.float16
