"""Parameters that a run holds in bfloat16: read as float32, moved, kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import normjax
from normjax import build, configure, errors, train
from normjax.record import files
from normjax.train import check, param_dtype, program, step
from tests import support

NARROW = {"train.param_dtype": "bfloat16", "optimizer.learning_rate": 0.1}
WIDE = {"train.param_dtype": "float32", "train.param_rounding": "nearest"}


def config_of(**changes):
  return support.tiny_mlp(NARROW, changes)


def dtypes(tree):
  return {x.dtype.name for x in jax.tree.leaves(tree)}


def test_it_is_in_no_run_that_does_not_ask():
  """At their defaults the leaves are in no id and no program's key."""
  base = support.tiny_mlp({"optimizer.learning_rate": 0.1})
  said = configure.override(base, WIDE)
  assert configure.run_id(base) == configure.run_id(said)
  assert build.program_key(base) == build.program_key(said)
  assert build.program_key(base) != build.program_key(config_of())


def test_a_step_is_that_of_the_wide_parameters():
  """Loss and gradient are those at the float32 of what is held; all is kept."""
  config = config_of(
    **{"train.param_rounding": "kahan", "train.ema_decay": 0.75}
  )
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  state = jax.jit(initialize)(hyper)
  assert dtypes(state.params) == {"bfloat16"}
  assert dtypes(state.average["params"]) == {"float32"}
  assert dtypes(state.optimizer_state.compensation) == {"bfloat16"}
  moments = dtypes(state.optimizer_state.inner)
  assert moments == {"float32", "int32"}

  batch = data.train_batch(0, 0, 8)
  wide_config = configure.override(config, WIDE)
  wide_recipe, wide_initialize = program.recipe_and_initialize(wide_config)
  wide = jax.jit(wide_initialize)(hyper)._replace(
    params=param_dtype.widen(state.params)
  )
  moved, row = jax.jit(lambda *x: step.train_step(recipe, *x))(
    state, batch, hyper
  )
  exact, wide_row = jax.jit(lambda *x: step.train_step(wide_recipe, *x))(
    wide, batch, hyper
  )
  for key in ("loss", "grad_norm"):
    np.testing.assert_array_equal(row[key], wide_row[key])
  # What is held and what its rounding took are the float32 weights, but for
  # the rounding of the latter: 2^-8 of half a distance.
  rest = moved.optimizer_state.compensation
  total = jax.tree.map(
    lambda w, c: np.float32(w) + np.float32(c), moved.params, rest
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-16, atol=1e-7),
    total,
    exact.params,
  )
  assert dtypes(moved.params) == {"bfloat16"}
  assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, state)


@pytest.mark.parametrize(
  "rounding", [pytest.param("stochastic", marks=pytest.mark.slow), "kahan"]
)
def test_a_run_goes_on_bit_for_bit(rounding, tmp_path):
  """From its second checkpoint; the model that it opens as is float32."""
  config = config_of(**{"train.param_rounding": rounding})
  straight, cut = tmp_path / "straight", tmp_path / "cut"
  result = train.run(config, straight)
  train.run(config, cut)
  (cut / files.CHECKPOINTS / "12").rename(tmp_path / "gone")
  (cut / files.RESULT).unlink()
  again = train.run(config, cut)
  assert files.read_json(cut / files.RUN)["resumed_at_steps"] == [8]
  assert again["metrics"] == result["metrics"]
  runs = [normjax.load_run(path) for path in (straight, cut)]
  jax.tree.map(
    np.testing.assert_array_equal, runs[0].state.params, runs[1].state.params
  )
  assert dtypes(runs[0].state.params) == {"bfloat16"}
  assert dtypes(nnx.state(runs[0].model, nnx.Param)) == {"float32"}


def test_updates_are_lost_to_the_nearest():
  """The same run at a small rate: to the nearest hardly a weight moves."""
  shares = {}
  for rounding in ("nearest", "stochastic"):
    config = config_of(
      **{
        "train.param_rounding": rounding,
        "optimizer.learning_rate": 1e-5,
        "schedule.name": "constant",
      }
    )
    recipe, initialize = program.recipe_and_initialize(config)
    hyper, data = build.hyper(config), build.dataset(config)
    state = jax.jit(initialize)(hyper)
    take = jax.jit(lambda *x, recipe=recipe: step.train_step(recipe, *x)[0])
    moved = state
    for t in range(2):
      moved = take(moved, data.train_batch(0, t, 8), hyper)
    pairs = zip(
      *(jax.tree.leaves(s.params["head"]) for s in (state, moved)), strict=True
    )
    shares[rounding] = np.mean(
      np.concatenate([np.ravel(a != b) for a, b in pairs])
    )
  assert shares["nearest"] < shares["stochastic"]


def test_bad_options():
  with pytest.raises(errors.UserError, match="parameters are float32; set"):
    param_dtype.check(
      config_of(
        **{"train.param_dtype": "float32", "train.param_rounding": "kahan"}
      )
    )
  with pytest.raises(errors.UserError, match="param_dtype='float16'; allowed"):
    check.check(config_of(**{"train.param_dtype": "float16"}))
