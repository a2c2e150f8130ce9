"""Norms taken away in training: schedules, averages, what is left of them."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import convert, errors, models
from normjax.convert import removal, watched
from normjax.nn import calling, start
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.nn.paths import TwoPathNorm
from normjax.norms import fake_layer_norm, taper_norm
from tests.convert.test_start_steps import moved

OFFICIAL = pathlib.Path(__file__).parent / "official" / "removal.npz"
TOKENS = np.arange(12).reshape(2, 6) % 11
SMALL = {"num_layers": 2, "num_heads": 2, "model_dim": 8, "vocab_size": 11}
# A step apart: in order 1, 2 | 3, 4 | 5, 6 | 7, end tokens 8, first ones 10.
QUICK = removal.Schedule(1, 1, 1, 1, end_delay=1, first_delay=2)
LAST = 10


def gpt2(**options):
  return moved(models.make("gpt2", **SMALL | options))


def called(model, train=False):
  """Logits, of one compiled call."""
  structure, variables = nn_variables.split(model)

  @jax.jit
  def call(variables):
    module = nn_variables.merge(structure, variables)
    return calling.call(module, TOKENS, train=train)

  return call(variables)


@functools.cache
def removed():
  """A small GPT-2 through the schedule, and what it gave on the way."""
  model = gpt2()
  going = removal.remove_norms(model, QUICK, end_token=3)
  structure, variables = nn_variables.split(going)

  @jax.jit
  def step(variables):
    module = nn_variables.merge(structure, variables)
    before = calling.call(module, TOKENS, train=False)
    calling.call(module, TOKENS, train=True)
    stats = nn_variables.new_stats(structure, module, variables["stats"])
    return {**variables, "stats": stats}, before

  found = []
  for _ in range(LAST + 1):
    variables, logits = step(variables)
    found.append(np.asarray(logits))
  assert step._cache_size() == 1
  return model, nn_variables.merge(structure, variables), found


@functools.cache
def official():
  return dict(np.load(OFFICIAL))


def fake_stats(**values):
  """Statistics of a norm in the middle of training, in float64."""
  made = fake_layer_norm.fake_layer_norm().init((8,))["stats"]
  made |= {"step": jnp.asarray(5, jnp.int32)}
  return made | {
    name: jnp.asarray(value, made[name].dtype)
    if jnp.issubdtype(made[name].dtype, jnp.integer)
    else jnp.asarray(value, jnp.float64)
    for name, value in values.items()
  }


def test_the_official_norm_in_float64():
  """Its buffers are float32: 2^-24 of a deviation, of outputs to about 20."""
  said = official()
  with jax.enable_x64(True):
    norm = fake_layer_norm.fake_layer_norm(momentum=0.9)
    params = {name: jnp.asarray(said[name]) for name in ("scale", "bias")}
    stats = fake_stats(std=2.0, first_std=7.0)
    for x, expected in zip(said["x"], said["real"], strict=False):
      given = {"params": params, "stats": stats}
      y, stats = norm.apply(given, jnp.asarray(x))
      np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    for name in ("std", "first_std"):
      np.testing.assert_allclose(stats[name], said[name], rtol=1e-7)

    def last(**values):
      now = stats | fake_stats(**values)
      now |= {k: stats[k] for k in ("std", "first_std")}
      given = {"params": params, "stats": now}
      return norm.apply(given, jnp.asarray(said["x"][3]), train=False)[0]

    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-6)
    kept = [0, fake_layer_norm.NEVER]
    fake = last(removed_at=[5, 6], special_until=kept)
    close(fake, said["fake"])
    site = fake_layer_norm.Site(path=fake_layer_norm.VALUE)
    given = {"params": params, "stats": fake_stats(removed_at=[5, 6])}
    value, _ = norm.apply(given, jnp.asarray(said["x"][3]), context=site)
    close(value, said["value"])
    stats["std"] = jnp.asarray(said["alike_std"])
    close(last(removed_at=[5, 5]), said["alike"])


def test_the_official_loss_on_deviations():
  said = official()
  with jax.enable_x64(True):
    x = jnp.asarray(said["x"][0])

    def loss(x):
      return 0.1 * watched.spread(x, jnp.asarray(said["is_end"]))

    value, gradient = jax.value_and_grad(loss)(x)
  np.testing.assert_allclose(value, said["loss"], rtol=1e-12)
  np.testing.assert_allclose(gradient, said["gradient"], rtol=0, atol=1e-14)


def test_averages_are_of_real_tokens_that_are_not_special():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(2, 4, 8)) * rng.uniform(1, 5, (2, 4, 1))
  mask = np.array([[0, 1, 1, 1], [1, 1, 1, 0]], bool)
  end = np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool)
  std = np.sqrt(x.var(-1) + 1e-5)
  with jax.enable_x64(True):
    norm = fake_layer_norm.fake_layer_norm(momentum=0.75)
    given = norm.init((8,), jnp.float64) | {
      "stats": fake_stats(std=2.0, first_std=3.0)
    }
    site = fake_layer_norm.Site(end_bt=jnp.asarray(end))
    hidden = np.where(mask[..., None], x, np.nan)
    apply = functools.partial(norm.apply, mask=jnp.asarray(mask), context=site)
    _, stats = apply(given, jnp.asarray(hidden))
    _, kept = apply(given, jnp.asarray(hidden), train=False)
    frozen = {**given, "stats": given["stats"] | fake_stats(removed_at=[3, 5])}
    _, still = apply(frozen, jnp.asarray(hidden))
  ordinary = [std[0, 2], std[1, 1], std[1, 2]]
  first = [std[0, 1], std[1, 0]]
  np.testing.assert_allclose(stats["std"], 1.5 + 0.25 * np.mean(ordinary))
  np.testing.assert_allclose(stats["first_std"], 2.25 + 0.25 * np.mean(first))
  steps = [int(each["step"]) for each in (stats, kept, still)]
  assert steps == [6, 5, 6]
  assert float(kept["std"]) == 2  # Evaluation moves nothing.
  assert float(still["std"]) == float(still["first_std"]) == 1


def test_without_a_bias_the_fake_form_keeps_mean_and_deviation():
  """Where the official code gives x * scale."""
  x = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32) + 4
  norm = fake_layer_norm.fake_layer_norm(use_bias=False)
  given = norm.init((8,))
  given["stats"] |= {
    "removed_at": jnp.zeros(2, jnp.int32),
    "std": jnp.float32(2),
  }
  y, _ = norm.apply(given, jnp.asarray(x), train=False)
  expected = (x - x.mean(-1, keepdims=True)) / 2
  np.testing.assert_allclose(y, expected, atol=1e-6)


def test_one_program_serves_the_schedule():
  """The order is feed-forward, queries and keys, values, final, special."""
  model, gone, logits = removed()
  original = called(model)
  # Before anything is removed the model is what it was.
  np.testing.assert_allclose(logits[0], original, atol=1e-6)
  changes = [
    step + 1
    for step in range(LAST)
    if np.abs(logits[step + 1] - logits[step]).max() > 1e-7
  ]
  assert changes == [1, 2, 3, 4, 5, 6, 7, 8, 10]
  stats = nn_variables.split(gone)[1]["stats"]
  at = {
    "layers/0/feed_forward_input_norm": [1, 1],
    "layers/1/feed_forward_input_norm": [2, 2],
    "layers/0/attention_input_norm": [3, 5],
    "layers/1/attention_input_norm": [4, 6],
    "final_norm": [7, 7],
  }
  for path, steps in at.items():
    found = functools.reduce(
      lambda node, key: node[key], path.split("/"), stats
    )
    assert found["removed_at"].tolist() == steps
    assert found["special_until"].tolist() == [8, 10]


def test_values_keep_their_norm_while_queries_and_keys_have_lost_it():
  model = gpt2()
  sites = removal.norm_sites(model)
  going = removal.remove_norms(model, removal.Schedule(1, 1, 1, 9))
  layer = going.layers[0].attention_input_norm
  assert isinstance(layer, TwoPathNorm)
  layer.step.set_value(layer.removed_at[...][0])
  layer.std.set_value(jnp.float32(3))
  x = jnp.asarray(np.random.default_rng(3).normal(size=(1, 4, 8)), jnp.float32)
  real = model.layers[0].attention_input_norm(x)
  found = layer(x, train=False)
  np.testing.assert_allclose(found.value, real, atol=1e-5)
  std = np.asarray(x).std(-1, keepdims=True)
  bias = np.asarray(layer.bias[...])
  fake = (np.asarray(real) - bias) * std / 3 + bias
  np.testing.assert_allclose(found.query_key[:, 1:], fake[:, 1:], atol=1e-5)
  assert len(sites) == 5


def test_the_official_constants():
  """As config.py makes them: of 12 blocks 20, 44, 68, 104, 106, 116."""
  beside = removal.Neighbours(readers=("a/query", "a/key", "a/value"))
  sites = {f"{i}/attention_input_norm": beside for i in range(12)}
  sites |= {
    f"{i}/feed_forward_input_norm": removal.Neighbours() for i in range(12)
  }
  sites["final_norm"] = removal.Neighbours()
  schedule = removal.SCHEDULES["gpt2_small"]
  steps = removal.removal_steps(sites, schedule)
  assert steps["0/feed_forward_input_norm"] == (20, 20)
  assert steps["1/feed_forward_input_norm"] == (22, 22)
  assert steps["0/attention_input_norm"] == (44, 68)
  assert steps["11/attention_input_norm"] == (66, 101)
  assert steps["final_norm"] == (104, 104)
  assert (schedule.end_delay, schedule.first_delay) == (2, 10)
  at_once = schedule._replace(feed_forward_gap=0, query_key_gap=0, value_gap=0)
  assert {*removal.removal_steps(sites, at_once).values()} == {(20, 20)}


def test_what_is_left_folds_into_kernels_and_into_stock_layer_norms():
  """Rounding of float32: sums of 8 and 32 terms, logits near 1."""
  _, gone, logits = removed()
  stock = convert.stock_layer_norms(gone)
  assert type(stock) is type(gpt2())
  np.testing.assert_allclose(called(stock), logits[-1], atol=1e-5)
  free = nnx.clone(gone)
  free.untie_head()
  free, account = convert.fold(free, TOKENS, new_biases=True)
  assert len(account.folded) == 5
  assert not account.left
  assert account.operations[1] < account.operations[0]
  kinds = {
    m.norm.name for _, m in nnx.iter_modules(free) if isinstance(m, NormLayer)
  }
  assert kinds == {"identity"}


def test_a_norm_that_is_still_there_is_not_folded():
  going = removal.remove_norms(gpt2(), QUICK)
  with pytest.raises(errors.UserError, match="still a norm: .* at step 0"):
    convert.fold(going)
  with pytest.raises(errors.UserError, match="norms: final_norm is still"):
    convert.stock_layer_norms(going)


def test_norms_without_gain_and_offset_fold():
  model = gpt2(norm="layer_norm(use_scale=False, use_bias=False)")
  going = removal.remove_norms(model, removal.Schedule(1, 0, 0, 0))
  for path in removal.norm_sites(model):
    layer = removal.neighbours.module_at(going, path)
    layer.step.set_value(jnp.asarray(100, jnp.int32))
    layer.std.set_value(jnp.float32(2))
  going.untie_head()
  free, account = convert.fold(going, TOKENS)  # Compares them.
  assert len(account.folded) == 5
  assert free.final_norm.norm.name == "identity"


@pytest.mark.parametrize("first", [0, -1])
def test_no_norm_goes_before_it_was_measured(first):
  with pytest.raises(errors.UserError, match=f"start={first}"):
    removal.remove_norms(gpt2(num_layers=1), QUICK._replace(start=first))


def test_the_loss_on_deviations_is_an_auxiliary_loss():
  model = gpt2(num_layers=1)
  step = convert.start_step("remove_norms(deviation_loss=0.5)")
  structure, variables = start.apply([step], *nn_variables.split(model))

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def spread(params):
    going = nn_variables.merge(structure, {**variables, "params": params})
    output = calling.call(going, TOKENS, train=True)
    return output.auxiliary_losses[watched.LOSS], output.logits

  (value, logits), gradient = spread(variables["params"])
  np.testing.assert_allclose(logits, called(model), atol=1e-6)
  by_position = convert.deviations(model, TOKENS)["final_norm"]
  assert by_position.shape == (6,)
  # Half of a mean square is at least that of means, and of nothing larger.
  assert 0.5 * np.var(by_position) < value < 0.5 * np.max(by_position) ** 2
  assert np.abs(gradient["embedding"]["embedding"]).max() > 0


REFUSED = {
  "post-norm": ({"placement": "post"}, "post-norm"),
  "inside": (
    {"slot_norms": {"query_key": "layer_norm"}},
    "query_norm .layer_norm. does not read the stream",
  ),
  "other": ({"norm": "dyt"}, "is dyt; needed: layer_norm or rms_norm"),
  "form": ({"norm": "layer_norm(zero_centered=True)"}, "zero_centered=True"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_norms_that_cannot_go_are_named(case):
  options, message = REFUSED[case]
  step = convert.start_step("remove_norms")
  structure, shapes = nn_variables.split(
    nnx.eval_shape(lambda: models.make("gpt2", **SMALL | options))
  )
  with pytest.raises(errors.UserError, match=message):
    start.check([step], structure, shapes)


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ("remove_norms(schedule='gpt2_smal')", "gpt2_small"),
    ("remove_norms(start=0)", "start"),
    ("remove_norms(value_gap=-1)", "value_gap"),
    ("remove_norms(momentum=2.0)", "momentum"),
    ("taper_norms", "taper_from"),
    ("taper_norms(taper_from=1, taper_steps=0)", "taper_steps"),
  ],
)
def test_options_out_of_range_are_named(entry, message):
  with pytest.raises(errors.UserError, match=message):
    convert.start_step(entry)


def reference_taper(x, stats, scale, tail_offset, bias):
  """One call in float64 NumPy: (y, new statistics); 1e-5 and 0.99."""
  r = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-5)
  gone = (stats["step"] - stats["from"]) / stats["steps"]
  g = 0.5 * (1 + np.cos(np.pi * min(max(gone, 0), 1)))
  c = stats["top"] / stats["bottom"] if stats["bottom"] else 1.0
  y = g * scale * x * r + (1 - g) * c * (stats["tail"] + tail_offset) * x + bias
  power = np.sum((scale * x) ** 2, -1, keepdims=True)
  new = dict(stats, step=stats["step"] + 1)
  if stats["step"] < stats["from"]:
    old = 0.99 if stats["step"] else 0.0
    new["top"] = old * stats["top"] + (1 - old) * np.mean(power * r)
    new["bottom"] = old * stats["bottom"] + (1 - old) * np.mean(power)
  if stats["step"] <= stats["from"]:
    new["tail"] = scale
  return y, new


def test_taper_norm_is_its_formula_at_every_step():
  rng = np.random.default_rng(4)
  with jax.enable_x64(True):
    norm = taper_norm.taper_norm(use_bias=True)
    made = norm.init((8,), jnp.float64)
    stats = made["stats"] | {
      "taper_from": jnp.asarray(2, jnp.int32),
      "taper_steps": jnp.asarray(3, jnp.int32),
    }
    stats = {
      k: v if v.dtype == jnp.int32 else v.astype(jnp.float64)
      for k, v in stats.items()
    }
    expected = {"step": 0, "from": 2, "steps": 3, "top": 0.0, "bottom": 0.0}
    expected["tail"] = np.ones(8)
    for _ in range(7):
      scale, tail_offset, bias = rng.normal(size=(3, 8))
      x = rng.normal(size=(2, 5, 8)) * 3
      params = {"scale": scale, "tail_offset": tail_offset, "bias": bias}
      given = {"params": jax.tree.map(jnp.asarray, params), "stats": stats}
      y, stats = norm.apply(given, jnp.asarray(x))
      truth, expected = reference_taper(x, expected, scale, tail_offset, bias)
      np.testing.assert_allclose(y, truth, rtol=0, atol=1e-12)
  np.testing.assert_allclose(stats["tail_scale"], expected["tail"])
  assert norm.is_linear_fn({"stats": stats})


def test_tapered_norms_fold_and_the_final_norm_stays():
  model = gpt2(num_layers=1)
  step = convert.start_step("taper_norms(taper_from=1, taper_steps=2)")
  structure, variables = start.apply([step], *nn_variables.split(model))

  @jax.jit
  def trained(variables):
    module = nn_variables.merge(structure, variables)
    logits = calling.call(module, TOKENS, train=True)
    stats = nn_variables.new_stats(structure, module, variables["stats"])
    return logits, {**variables, "stats": stats}

  before, after = trained(variables)
  np.testing.assert_allclose(before, called(model), atol=1e-6)
  with pytest.raises(errors.UserError, match="still a norm"):
    convert.fold(nn_variables.merge(structure, after))
  for _ in range(2):
    _, after = trained(after)
  folded, account = convert.fold(nn_variables.merge(structure, after), TOKENS)
  assert len(account.folded) == 2
  assert list(account.left) == ["final_norm"]
  assert folded.final_norm.norm.name == "layer_norm"
