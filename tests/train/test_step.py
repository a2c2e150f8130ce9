"""The pure step: accumulation, devices, backward statistics, probes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import build, objectives
from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.train import passes, program, schedules, step
from normjax.train import state as train_state
from tests import support


def _run(config, num_steps=3):
  """States and metrics of the first steps, as NumPy."""
  compiled, _ = program.get(config)
  hyper = compiled.layout.put_scalars(build.hyper(config))
  dataset = build.dataset(config)

  def batch(index):
    return compiled.layout.put_batch(
      dataset.train_batch(config.seed, index, config.train.batch_size)
    )

  state = compiled.initialize(hyper, batch(0))
  metrics = []
  for index in range(num_steps):
    state, values = compiled.step(state, batch(index), hyper)
    metrics.append(jax.device_get(values))
  return jax.device_get(state), metrics


def _assert_close(first, second, rtol):
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    scale = np.abs(a).max() if a.size else 0.0
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale + 1e-30)


# Sums of the same float32 terms in another order: a batch holds 128 tokens
# and a gradient is a sum over them, so relative errors are within a few
# sqrt(128) 2**-24 = 7e-7; three steps of AdamW, which divides by the root of
# small second moments, are given a factor 100.
REORDERED = 1e-4


@pytest.mark.parametrize("num_devices", [1, 8])
def test_accumulated_gradients_are_the_whole_batchs(num_devices):
  """Of one device's, also where each micro-batch is spread over eight."""
  whole = support.tiny({"train.batch_size": 32})
  parts = support.tiny(
    {"train.batch_size": 32, "train.accumulation_steps": 4}
    | {"train.num_devices": num_devices}
  )
  (first, metrics), (second, other) = _run(whole), _run(parts)
  assert program.get(parts)[0].layout.mesh.size == num_devices
  _assert_close(first.params, second.params, REORDERED)
  for a, b in zip(metrics, other, strict=True):
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-6)
    np.testing.assert_allclose(a["grad_norm"], b["grad_norm"], rtol=1e-5)


@pytest.mark.parametrize(
  "kind",
  [
    # With accumulation a decoder is on eight devices, too.
    pytest.param("decoder", marks=pytest.mark.slow),
    "resnet with batch_norm",
  ],
)
def test_eight_devices_give_what_one_gives(kind):
  make = support.tiny if kind == "decoder" else support.tiny_resnet
  one, eight = make(), make()
  for config, count in ((one, 1), (eight, 8)):
    config.train.batch_size = 16
    config.train.num_devices = count
  (first, metrics), (second, other) = _run(one), _run(eight)
  assert program.get(eight)[0].layout.mesh.size == 8
  _assert_close(first.params, second.params, REORDERED)
  # Batch statistics are of the whole batch, over all devices.
  _assert_close(first.stats, second.stats, REORDERED)
  for a, b in zip(metrics, other, strict=True):
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


def test_clipping_bounds_the_gradient_and_zero_turns_it_off():
  sgd_like = {"optimizer.name": "adamw", "optimizer.weight_decay": 0.0}
  clipped = _run(support.tiny_mlp(sgd_like | {"train.gradient_clip": 1e-3}))
  free = _run(support.tiny_mlp(sgd_like | {"train.gradient_clip": 0.0}))
  # The norm that is logged is the one before clipping.
  np.testing.assert_array_equal(
    clipped[1][0]["grad_norm"], free[1][0]["grad_norm"]
  )
  largest = [
    max(
      np.abs(leaf).max()
      for leaf in jax.tree.leaves(state.optimizer_state)
      if np.issubdtype(leaf.dtype, np.floating)
    )
    for state, _ in (clipped, free)
  ]
  # A moment is an average of gradients, none longer than the bound.
  assert largest[0] <= 1e-3 < largest[1]


def test_bfloat16_keeps_float32_parameters_and_trains():
  state, metrics = _run(support.tiny({"train.precision": "bfloat16"}))
  exact, reference = _run(support.tiny())
  for leaf in jax.tree.leaves(state.params):
    assert leaf.dtype == np.float32
  assert metrics[0]["loss"] != reference[0]["loss"]
  # bfloat16 has 8 bits; the loss is a mean of 128 tokens.
  np.testing.assert_allclose(
    metrics[0]["loss"], reference[0]["loss"], rtol=2**-8
  )
  del exact


def test_the_logged_learning_rate_is_the_one_used():
  config = support.tiny_mlp(
    {"schedule.name": "constant", "schedule.warmup_fraction": 0.5}
    | {"train.num_steps": 4, "optimizer.learning_rate": 0.5}
  )
  _, metrics = _run(config, 3)
  rates = [float(values["learning_rate"]) for values in metrics]
  np.testing.assert_allclose(rates, [0.25, 0.5, 0.5])


def test_probes_are_chosen_by_pattern():
  config = support.tiny(
    {
      "log.probes": (
        r"activation/.*stream",
        r"gradient/.*query",
        r"update/head",
        r"effective_learning_rate/head",
        r"gradient_norm/",
        r"scale/final_norm",
        r"spectrum/.*query",
      )
    }
  )
  _, metrics = _run(config, 2)
  names = {name for name in metrics[1] if "/" in name}
  assert names == {
    *(
      f"activation/layers/0/stream/0/{statistic}"
      for statistic in ("mean", "variance", "rms", "max")
    ),
    *(
      f"gradient/layers/0/attention/query/kernel/{statistic}"
      for statistic in ("mean", "variance", "rms", "max")
    ),
    *(
      f"update/head/kernel/{name}"
      for name in ("mean", "variance", "rms", "max")
    ),
    "effective_learning_rate/head/kernel",
    *(
      f"gradient_norm/{part}"
      for part in ("layers/0", "embedding", "head", "final_norm")
    ),
    *(
      f"scale/final_norm/scale/{name}" for name in ("mean", "rms", "min", "max")
    ),
    *(
      f"spectrum/layers/0/attention/query/kernel/{name}"
      for name in ("largest", "stable_rank", "effective_rank")
    ),
  }
  assert all(np.isfinite(metrics[1][name]) for name in names)
  assert metrics[1]["effective_learning_rate/head/kernel"] > 0
  parts = [metrics[1][name] for name in names if name.startswith("gradient_n")]
  whole = metrics[1]["grad_norm"]
  np.testing.assert_allclose(np.linalg.norm(parts), whole, rtol=1e-5)


def test_probes_survive_accumulation():
  config = support.tiny(
    {"log.probes": ("activation/.*stream",), "train.accumulation_steps": 2}
  )
  single = support.tiny({"log.probes": ("activation/.*stream",)})
  name = "activation/layers/0/stream/0/max"
  _, (values,) = _run(config, 1)
  _, (whole,) = _run(single, 1)
  np.testing.assert_allclose(values[name], whole[name], rtol=1e-5)


@jax.custom_vjp
def _watched(x, statistic):
  """x; the gradient's largest magnitude is the statistic's new value."""
  del statistic
  return x


_watched.defvjp(
  lambda x, statistic: (x, None),
  lambda _, dy: (dy, jnp.max(jnp.abs(dy))),
)


class _Watcher(nnx.Module):
  def __init__(self, rngs):
    self.linear = nnx.Linear(3, 4, rngs=rngs)
    self.largest = nn_variables.GradStat(jnp.zeros(()))

  def __call__(self, x, *, train=True, key=None):
    return _watched(self.linear(x), self.largest.get_value())


def _recipe_and_state(module, accumulation_steps):
  """A program of a module of one's own, with plain momentum."""
  structure, variables = nn_variables.split(module)
  recipe = step.Recipe(
    graphdef=structure,
    make_optimizer=lambda hyper, scale: optax.sgd(0.1, momentum=0.9),
    schedule=schedules.get("constant"),
    make_objective=lambda hyper: objectives.make("cross_entropy"),
    accumulation_steps=accumulation_steps,
    probes=(),
    roles=model_roles.of(module),
  )
  optimizer_state = recipe.make_optimizer(None, None).init(variables["params"])
  return recipe, train_state.create(variables, optimizer_state)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_a_backward_statistic_takes_its_gradient_as_its_value(
  accumulation_steps,
):
  recipe, state = _recipe_and_state(_Watcher(nnx.Rngs(0)), accumulation_steps)
  inputs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  batch = {
    "inputs": jnp.asarray(inputs),
    "targets": jnp.asarray([0, 1, 2, 3]),
    "weight": jnp.ones(4),
  }
  new, metrics = step.train_step(
    recipe, state, batch, build.hyper(support.tiny())
  )
  logits = np.asarray(_Watcher(nnx.Rngs(0)).linear(inputs), np.float64)
  softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  gradient = (softmax - np.eye(4)) / 4
  largest = [
    np.abs(gradient[first::accumulation_steps]).max()
    for first in range(accumulation_steps)
  ]
  # Of each micro-batch; the loss is the mean over the whole batch.
  np.testing.assert_allclose(
    new.grad_stats["largest"], np.mean(largest), rtol=1e-5
  )
  # Neither the optimizer nor the gradient's norm has seen it.
  moved = jax.tree.structure(new.params)
  assert jax.tree.structure(new.optimizer_state[0].trace) == moved
  weights = np.concatenate([inputs.T @ gradient, gradient.sum(0)[None]])
  np.testing.assert_allclose(
    metrics["grad_norm"], np.linalg.norm(weights), rtol=1e-5
  )


def test_micro_batches_are_strides():
  batch = {"inputs": jnp.arange(12).reshape(6, 2)}
  micro = passes.micro_batches(batch, 3)["inputs"]
  np.testing.assert_array_equal(micro[1], batch["inputs"][1::3])


class _Normed(nnx.Module):
  def __init__(self, norm, rngs):
    self.first = nnx.Linear(3, 8, rngs=rngs)
    self.norm = NormLayer(norm, (8,))
    self.second = nnx.Linear(8, 4, rngs=rngs)

  def __call__(self, x, *, train=True, key=None):
    return self.second(self.norm(self.first(x), train=train))


def _third_step(norm):
  """Norm variables after three steps, the last on one batch or its quarters."""
  rng = np.random.default_rng(0)
  hyper = build.hyper(support.tiny())
  batches = [
    {
      "inputs": jnp.asarray(rng.normal(size=(16, 3)), jnp.float32),
      "targets": jnp.asarray(rng.integers(0, 4, 16)),
      "weight": jnp.ones(16),
    }
    for _ in range(3)
  ]
  recipe, state = _recipe_and_state(_Normed(norm, nnx.Rngs(0)), 1)
  whole, parts = (
    jax.jit(functools.partial(step.train_step, r))
    for r in (recipe, recipe._replace(accumulation_steps=4))
  )
  for batch in batches[:2]:
    state, _ = whole(state, batch, hyper)
  for compiled in (whole, parts):
    new, _ = compiled(state, batches[2], hyper)
    yield jax.device_get((new.stats["norm"], new.grad_stats.get("norm", {})))


def test_an_accumulated_running_mean_is_the_whole_batchs():
  (whole, _), (parts, _) = _third_step("batch_norm")
  assert whole["mean"].any()
  _assert_close(whole["mean"], parts["mean"], REORDERED)


def test_accumulated_power_norm_is_the_whole_batchs():
  """After the warm-up all its statistics are linear in the batch."""
  whole, parts = _third_step({"name": "power_norm", "warmup_steps": 2})
  assert whole[1]["ema_gz"].any()
  _assert_close(whole, parts, REORDERED)


def test_a_warm_up_counts_steps_not_micro_batches():
  """The windows then hold the batch's statistics, each in one slot."""
  whole, parts = _third_step("unified_norm")
  for stats, _ in (whole, parts):
    assert stats["steps"] == 3
    assert stats["steps"].dtype == np.int32
    assert (stats["buffer_x2"][1:] > 0).all()
    assert (stats["buffer_x2"][0] == 0).all()
  _assert_close(whole[0], parts[0], REORDERED)


def test_evaluation_depends_on_neither_batch_size_nor_devices():
  """Exact weighted means: up to float32 sums."""
  from normjax.train.evaluate import evaluate

  means = []
  for size, num_devices in ((16, 1), (24, 8), (359, 1)):
    config = support.tiny_mlp(
      {
        "norm.name": "batch_norm",
        "train.num_devices": num_devices,
        "evaluate.batch_size": size,
        "evaluate.num_batches": 0,
        "evaluate.metrics": ("calibration_error", "top5_accuracy"),
      }
    )
    compiled, _ = program.get(config)
    dataset = build.dataset(config)
    batch = dataset.train_batch(0, 0, config.train.batch_size)
    state = compiled.initialize(build.hyper(config), batch)
    means.append(
      evaluate(
        compiled,
        state,
        dataset,
        build.hyper(config),
        batch_size=size,
        num_batches=0,
      ).means
    )
  for other in means[1:]:
    assert other["accuracy"] == pytest.approx(means[0]["accuracy"], rel=1e-12)
    assert other["loss"] == pytest.approx(means[0]["loss"], rel=1e-6)
    assert other["top5_accuracy"] == pytest.approx(
      means[0]["top5_accuracy"], rel=1e-12
    )
    # Sums of float32 confidences; a bin may be the difference of two.
    assert other["calibration_error"] == pytest.approx(
      means[0]["calibration_error"], rel=1e-5
    )
