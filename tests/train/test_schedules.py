import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import errors
from normjax.train import check, schedules
from tests import support

SCALARS = {
  "num_steps": 200,
  "warmup_fraction": 0.1,
  "decay_fraction": 0.25,
  "final_fraction": 0.05,
}


def _values(name, **changes):
  scalars = {**SCALARS, **changes}
  steps = jnp.arange(scalars["num_steps"])
  return np.asarray(jax.vmap(lambda t: schedules.get(name)(t, scalars))(steps))


def test_warmup_rises_linearly_from_the_first_step():
  for name in schedules.names():
    np.testing.assert_allclose(
      _values(name)[:20], np.arange(1, 21) / 20, rtol=1e-6
    )


def test_warmup_cosine_equals_optax():
  """After the warm-up, where optax counts from 0 and we from 1."""
  theirs = optax.warmup_cosine_decay_schedule(0.0, 1.0, 20, 200, 0.05)
  ours = _values("warmup_cosine")
  # float32 cosine: a few units in the last place of 1.
  np.testing.assert_allclose(ours[20:], theirs(jnp.arange(20, 200)), atol=5e-7)


def test_linear_and_wsd_end_near_the_final_fraction():
  linear = _values("linear")
  np.testing.assert_allclose(
    linear[20:], 1 - 0.95 * np.arange(180) / 180, rtol=1e-5
  )
  wsd = _values("wsd")
  np.testing.assert_allclose(wsd[20:150], 1.0, rtol=1e-6)
  np.testing.assert_allclose(
    wsd[150:], 1 - 0.95 * np.arange(50) / 50, rtol=1e-5
  )


def test_step_decay_equals_optax():
  block = {"name": "step_decay", "milestones": [0.3, 0.5]}
  ours = jax.vmap(lambda t: schedules.of_block(block)(t, SCALARS))
  theirs = optax.piecewise_constant_schedule(1.0, {60: 0.1, 100: 0.1})
  t = jnp.arange(20, 200)
  np.testing.assert_allclose(ours(t), theirs(t), rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "value", "said"),
  [
    ("step_decay", (), r"milestones=\(\) with schedule.name='step_decay'"),
    ("linear", (0.5,), "they are of 'step_decay'"),
    ("step_decay", (0.5, 0.5), "must be a tuple of rising numbers above 0"),
    ("step_decay", (1.0,), "must be a tuple of rising numbers above 0"),
    ("step_decay", ("half",), "must be a tuple of rising numbers above 0"),
  ],
)
def test_milestones_that_are_none(name, value, said):
  changes = {"schedule.name": name, "schedule.milestones": value}
  with pytest.raises(errors.UserError, match=said):
    check.check(support.tiny(changes))


def test_constant_and_no_warmup():
  np.testing.assert_array_equal(
    _values("constant", warmup_fraction=0.0), np.ones(200)
  )


def test_lengths_may_be_traced():
  """Runs of two lengths are one program."""
  traces = []

  @jax.jit
  def value(step, num_steps):
    traces.append(1)
    scalars = {**SCALARS, "num_steps": num_steps}
    return [schedules.get(name)(step, scalars) for name in schedules.names()]

  value(jnp.asarray(3), jnp.asarray(10))
  value(jnp.asarray(3), jnp.asarray(20))
  assert len(traces) == 1


def test_an_unknown_schedule_is_named():
  with pytest.raises(errors.UnknownNameError, match="unknown schedule 'cosin"):
    schedules.get("cosine_warmup")
