"""Mixup and CutMix against transcriptions of timm's formulas in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import build, configure, errors, rng
from normjax.nn.output import Output
from normjax.objectives import cross_entropy, function
from normjax.train import check, mixup, program, step
from tests import support

KEY = jax.random.key(5)
BOTH = (0.8, 1.0)


@functools.partial(jax.jit, static_argnums=1)
def _jitted(batch, mode, numbers, key):
  return mixup.mix(batch, mixup.Options(mode, *numbers), key)


def _mix(
  batch, mode, mixup_alpha, cutmix_alpha, *, chances=(1.0, 0.5), key=KEY
):
  """Compiled once for a mode and the alphas that are there."""
  return _jitted(batch, mode, (mixup_alpha, cutmix_alpha, *chances), key)


def _batch(size=64, shape=(6, 8, 2), seed=0):
  generator = np.random.default_rng(seed)
  return {
    "inputs": generator.normal(size=(size, *shape)).astype(np.float32),
    "targets": generator.integers(0, 5, size=size),
    "weight": np.ones(size, np.float32),
  }


def _box(share, center_y, center_x, shape):
  """As timm's `rand_bbox` without a margin, and `cutmix_bbox_and_lam`."""
  ratio = np.sqrt(1 - share)
  sides = []
  for center, side in zip((center_y, center_x), shape, strict=True):
    cut = int(side * ratio)
    low, high = center - cut // 2, center + cut // 2
    sides.append((max(low, 0), min(high, side)))
  (y0, y1), (x0, x1) = sides
  inside = np.zeros(shape, bool)
  inside[y0:y1, x0:x1] = True
  return inside, 1 - (y1 - y0) * (x1 - x0) / (shape[0] * shape[1])


def test_the_box_is_timms():
  generator = np.random.default_rng(1)
  share, shape = generator.random(200), (12, 20)
  share[:2] = 0, 1
  y, x = (generator.integers(0, side, 200) for side in shape)
  inside, rest = mixup.box(jnp.asarray(share, "float32"), y, x, shape)
  for n in range(200):
    want_inside, want_rest = _box(share[n], y[n], x[n], shape)
    np.testing.assert_array_equal(inside[n], want_inside)
    np.testing.assert_allclose(rest[n], want_rest, atol=1e-6)


def _check_mixed(batch, mixed):
  """Every example is by mixup or by cutmix; which of them are by the latter."""
  own = batch["inputs"].astype(np.float64)
  other, share = own[::-1], np.asarray(mixed["share"], np.float64)
  np.testing.assert_array_equal(mixed["other_targets"], batch["targets"][::-1])
  np.testing.assert_array_equal(mixed["targets"], batch["targets"])
  got = np.asarray(mixed["inputs"], np.float64)
  is_other = np.all(got == other, axis=-1)
  is_cut = np.all(is_other | np.all(got == own, axis=-1), axis=(1, 2))
  for n, cut in enumerate(is_cut):
    if cut:
      np.testing.assert_allclose(1 - is_other[n].mean(), share[n], atol=1e-6)
      rows, columns = is_other[n].any(1), is_other[n].any(0)
      np.testing.assert_array_equal(is_other[n], np.outer(rows, columns))
    else:
      want = share[n] * own[n] + (1 - share[n]) * other[n]
      np.testing.assert_allclose(got[n], want, atol=1e-6)
  return is_cut


def test_one_draw_for_a_batch():
  batch, kinds = _batch(), set()
  for n in range(8):
    mixed = _mix(batch, "batch", *BOTH, key=jax.random.fold_in(KEY, n))
    is_cut = _check_mixed(batch, mixed)
    assert len({*is_cut}) == len(np.unique(mixed["share"])) == 1
    kinds.add(bool(is_cut[0]))
  assert kinds == {True, False}


@pytest.mark.parametrize("mode", ["element", "halves"])
def test_a_draw_for_each_example(mode):
  batch = _batch()
  mixed = _mix(batch, mode, *BOTH)
  is_cut = _check_mixed(batch, mixed)
  assert len(np.unique(mixed["share"])) > 20
  if mode == "halves":
    # One that is not cut at all looks like either.
    assert not is_cut[:32].any()
    assert is_cut[32:].all()
  else:
    assert 10 < is_cut.sum() < 54


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_of_the_beta_distribution(alpha):
  """Mean and variance; `mixup_probability` of them are below 1."""
  batch = _batch(4000, (1, 1, 1))
  mixed = _mix(batch, "element", alpha, None, chances=(0.75, 0.5))
  share = np.asarray(mixed["share"], np.float64)
  # The two are indistinguishable where a draw rounds to 1.
  is_mixed = share < 1
  assert abs(is_mixed.mean() - 0.75) < 0.05
  drawn = share if alpha < 1 else share[is_mixed]
  mean, square = 0.5, 0.25 / (2 * alpha + 1) + 0.25
  if alpha < 1:
    mean, square = 0.75 * mean + 0.25, 0.75 * square + 0.25
  # Five standard errors of a number in [0, 1].
  np.testing.assert_allclose(drawn.mean(), mean, atol=0.04)
  np.testing.assert_allclose((drawn**2).mean(), square, atol=0.04)


def test_the_switch_is_a_probability():
  batch, counts = _batch(), []
  for n in range(12):
    key = jax.random.fold_in(KEY, n)
    mixed = _mix(batch, "element", *BOTH, chances=(1.0, 0.25), key=key)
    counts.append(_check_mixed(batch, mixed).mean())
  # Four standard errors, and a box of no pixel looks like mixup.
  assert abs(np.mean(counts) - 0.25) < 0.08


def test_padding_is_mixed_into_nothing():
  batch = _batch()
  batch["weight"][-3:] = 0
  batch["inputs"][-3:] = 1e6
  for mode in ("batch", "element"):
    mixed = _mix(batch, mode, *BOTH)
    np.testing.assert_array_equal(mixed["inputs"][:3], batch["inputs"][:3])
    np.testing.assert_array_equal(mixed["share"][:3], 1)
    assert np.abs(mixed["inputs"][:-3]).max() < 100


def test_runs_side_by_side_have_their_own_draws():
  """Under vmap over seeds, each lane is what it is alone."""
  batch = _batch()
  keys = jax.random.split(KEY, 3)
  together = jax.jit(
    jax.vmap(lambda key: _mix(batch, "batch", *BOTH, key=key))
  )(keys)
  for n, key in enumerate(keys):
    alone = _mix(batch, "batch", *BOTH, key=key)
    for name, value in alone.items():
      np.testing.assert_allclose(together[name][n], value, atol=1e-6)
  assert len(np.unique(together["share"])) == 3


def test_integers_and_half_precision():
  for given, want in (
    (jnp.bfloat16, jnp.bfloat16),
    (jnp.float32, jnp.float32),
    (jnp.uint8, jnp.float32),
  ):
    batch = _batch() | {"inputs": jax.ShapeDtypeStruct((64, 6, 8, 2), given)}
    mixed = jax.eval_shape(lambda batch: _mix(batch, "batch", 1.0, None), batch)
    assert mixed["inputs"].dtype == want


def _mixed_logits():
  batch = _batch()
  batch["weight"][:] = np.linspace(0.1, 1, 64)
  mixed = _mix(batch, "element", *BOTH)
  return mixed, 3 * np.random.default_rng(2).normal(size=(64, 5))


def test_the_loss_is_that_of_mixed_and_smoothed_targets():
  """As timm's `mixup_target` and SoftTargetCrossEntropy."""
  mixed, logits = _mixed_logits()
  share = np.asarray(mixed["share"], np.float64)[:, None]
  on, off = 0.9 + 0.1 / 5, 0.1 / 5

  def hot(y, on, off):
    return np.where(np.arange(5) == np.asarray(y)[:, None], on, off)

  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  want = {}
  for name, values in {"objective": (on, off), "loss": (1, 0)}.items():
    own, other = (
      hot(mixed[key], *values) for key in ("targets", "other_targets")
    )
    soft = share * own + (1 - share) * other
    want[name] = -(mixed["weight"] * (soft * log_p).sum(-1)).sum()
  hits = [
    logits.argmax(-1) == np.asarray(mixed[key])
    for key in ("targets", "other_targets")
  ]
  counted = share[:, 0] * hits[0] + (1 - share[:, 0]) * hits[1]
  want["accuracy"] = (mixed["weight"] * counted).sum()
  want["weight"] = mixed["weight"].sum()
  objective = cross_entropy.cross_entropy(label_smoothing=0.1)
  output = Output(jnp.asarray(logits, jnp.float32), {"aux": jnp.float32(0.25)})
  got = mixup.sums(objective, output, mixed)
  # An auxiliary loss of the model counts once.
  want["aux"] = 0.25 * want["weight"]
  want["objective"] += want["aux"]
  assert got.keys() == want.keys()
  for name, value in want.items():
    np.testing.assert_allclose(got[name], value, rtol=2e-6, err_msg=name)


def test_a_loss_of_ones_own_is_mixed_too():
  def loss(outputs, batch):
    return optax.losses.softmax_cross_entropy_with_integer_labels(
      outputs.logits, batch["targets"]
    )

  mixed, logits = _mixed_logits()
  output = Output(jnp.asarray(logits, jnp.float32))
  own = mixup.sums(function.objective("own", loss), output, mixed)
  ours = mixup.sums(cross_entropy.cross_entropy(), output, mixed)
  np.testing.assert_allclose(own["loss"], ours["loss"], rtol=1e-6)


# ----- In a run -----

_CONFIG = {
  "model.name": "mlp",
  "model.num_layers": 1,
  "model.hidden_dim": 8,
  "data.name": "digits",
  "train.batch_size": 16,
  "train.mixup_alpha": 0.8,
  "train.cutmix_alpha": 1.0,
}


def _config(**changes):
  overrides = {
    key: value
    for key, value in support.DECODER.items()
    if not key.startswith(("model.", "data."))
  }
  overrides |= _CONFIG | changes
  return configure.override(configure.load("configs/default.py"), overrides)


def test_a_step_mixes_its_whole_batch():
  """The draw is the step's and the seed's; micro-batches do not matter."""
  config = _config(**{"train.accumulation_steps": 4, "seed": 3})
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  state, batch = initialize(hyper), data.train_batch(3, 2, 16)
  state = state._replace(step=jnp.int32(2))
  _, metrics = jax.jit(lambda *given: step.train_step(recipe, *given))(
    state, batch, hyper
  )
  key = rng.fold(3, "mixup", 2)
  mixed = mixup.mix(batch, mixup.Options("batch", 0.8, 1.0), key)
  assert 0 < mixed["share"][0] < 1
  output, _, _ = step.forward(
    recipe, state.variables(), mixed["inputs"], train=True, key=key
  )
  want = mixup.sums(cross_entropy.cross_entropy(), output, mixed)
  np.testing.assert_allclose(metrics["loss"], want["loss"] / 16, rtol=1e-5)


def test_a_batch_that_is_spread_over_devices():
  """Partners may lie on another one."""
  batch = _batch()
  layout = program.layout_lib.data_parallel({"data": 8}, None, jax.devices())
  spread = _mix(layout.put_batch(batch), "element", *BOTH)
  for name, value in _mix(batch, "element", *BOTH).items():
    np.testing.assert_allclose(spread[name], value, atol=1e-6)


def test_alphas_share_a_program():
  keys = {
    build.program_key(_config(**{"train.mixup_alpha": alpha}))
    for alpha in (0.2, 0.8)
  }
  assert len(keys) == 1
  off = build.program_key(_config(**{"train.mixup_alpha": 0.0}))
  assert off not in keys


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train.mixup_alpha": -0.1}, r"train.mixup_alpha=-0.1 must be at least 0"),
    ({"train.mixup_probability": 1.5}, "must be at least 0 and at most 1"),
    ({"train.mixup_mode": "elem"}, "Did you mean 'element'"),
    (
      {"train.cutmix_alpha": 0.0, "train.mixup_switch_probability": 0.3},
      "nothing reads it without train.mixup_alpha and train.cutmix_alpha",
    ),
    (
      {"train.cutmix_alpha": 0, "train.mixup_alpha": 0}
      | {"train.mixup_mode": "halves"},
      r"mixup_mode='halves': nothing reads it without train.mixup_alpha or",
    ),
    ({"train.batch_size": 15}, r"train.batch_size=15 must be even"),
    (
      {"data.name": "diabetes"},
      r"train.mixup_alpha=0.8: data 'diabetes' gives features with targets that"
      " are values; only images",
    ),
  ],
)
def test_what_cannot_be_mixed_is_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    check.check(_config(**changes))
