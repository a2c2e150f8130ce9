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
  # Of cosine_restarts alone; the first 20 steps are the warm-up's.
  "restart_every": 50,
  "restart_warmup_steps": 5,
  "adjust_steps": 0,
}
OFFICIAL = "tests/nn/linear/official/relora_training.npz"


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


@pytest.mark.parametrize("case", range(6))
def test_cosine_restarts_is_the_official_one(case):
  """In warm-ups a step earlier: there the first step of each has rate 0."""
  with np.load(OFFICIAL) as file:
    row, there = file["schedules"][case], file[f"fractions_{case}"]
  num_steps, first, rise, every, final, adjust = row
  ours = _values(
    "cosine_restarts",
    num_steps=int(num_steps),
    warmup_fraction=first / num_steps,
    restart_warmup_steps=int(rise),
    restart_every=int(every),
    final_fraction=final,
    adjust_steps=int(adjust),
  )
  t = np.arange(int(num_steps))
  shifted = t + int(adjust)
  since = shifted % every
  in_first = t < first
  rises = ~in_first & (shifted >= every) & (since < rise)
  theirs = np.where(in_first | rises, there[1:], there[:-1])
  # Theirs does not rise before t = R, and rises past the cosine's end. At the
  # end of the first warm-up it is adjusted already.
  ends = np.where(rises, shifted - since + rise, shifted)
  same = (ends <= num_steps) & ~(rises & (t < every))
  same &= ~(in_first & (t + 1 >= first)) | (adjust == 0)
  assert same.all() == (adjust == 0)
  # A float32 cosine, of an argument rounded at up to pi: 4 units of 1.
  np.testing.assert_allclose(ours[same], theirs[same], rtol=0, atol=5e-7)
  if adjust:
    where = rises & (t < every)
    assert where.sum() == min(rise, adjust)
    top = there[t[where][-1] + 1]  # The cosine, from which theirs goes on.
    assert (ours[where] <= top + 1e-6).all()
  assert (ours > 0).all()
  if rise > 1:
    assert ours[int(every - adjust)] < 0.5 * ours[int(every - adjust) - 1]


RELORA = "relora(rank=2, restart_every=5)"
RESTARTS = {
  "schedule.name": "cosine_restarts",
  "schedule.restart_warmup_steps": 2,
  "train.num_steps": 20,
}


def test_restarts_are_those_of_the_layers():
  """Also where the first merge comes earlier."""
  for linear, first in ((RELORA, 5), (RELORA[:-1] + ", adjust_steps=2)", 3)):
    config = support.tiny({"model.linear": linear, **RESTARTS})
    check.check(config)
    scalars = {"num_steps": 20, "restart_warmup_steps": 2}
    scalars |= {"warmup_fraction": 0.1, "final_fraction": 0.1}
    found = schedules.of_config(config)
    over_steps = jax.vmap(found, in_axes=(0, None))
    values = np.asarray(over_steps(jnp.arange(20), scalars))
    falls = np.flatnonzero(values[1:] < 0.6 * values[:-1]) + 1
    np.testing.assert_array_equal(falls, range(first, 20, 5))


def test_dense_layers_may_restart_by_the_schedule():
  config = support.tiny({"schedule.restart_every": 5, **RESTARTS})
  check.check(config)
  assert schedules.restarts_of(config).every == 5


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({}, "needs schedule.restart_every, in steps"),
    (
      {"model.linear": RELORA, "schedule.restart_every": 4},
      "restart_every=4: layers.*every 5 steps; allowed: 0",
    ),
    (
      {"model.linear": RELORA, "schedule.restart_warmup_steps": 0},
      "restart_warmup_steps=0.*allowed: 1 to 4",
    ),
    (
      {"model.linear": RELORA, "schedule.restart_warmup_steps": 5},
      "restart_warmup_steps=5.*allowed: 1 to 4",
    ),
    (
      {"model.linear": RELORA, "schedule.warmup_fraction": 0.3},
      "are 6 steps.*at most 5, where the first restart is",
    ),
    (
      {"schedule.name": "linear"},
      "restart_warmup_steps=2 with schedule.name='linear'",
    ),
    ({"schedule.name": "wsd", "schedule.restart_every": 3}, "restart_every=3"),
  ],
)
def test_restarts_that_are_none(changes, said):
  with pytest.raises(errors.UserError, match=said):
    check.check(support.tiny({**RESTARTS, **changes}))


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
