"""Zeroth order in runs: statistics, resuming, models and mistakes."""

import functools
import math
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, configure, errors, stopping, train
from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.record import files
from normjax.train import check, entry, gradient, program, rounded_away
from normjax.train import step as train_step
from tests import support
from tests.train.zeroth_order import cases


@pytest.mark.parametrize(
  "derivative",
  ["two_sided", pytest.param("one_sided", marks=pytest.mark.slow)],
)
def test_running_statistics_move_once(derivative):
  """As in a step with backpropagation, at w; or not at all."""
  model = cases.Small("batch_norm")
  want = cases.estimate(*cases.own(model, "backpropagation")).stats
  text = f"zeroth_order(derivative={derivative!r})"
  given = cases.own(model, text)
  found = cases.estimate(*given)
  for a, b in zip(
    jax.tree.leaves(found.stats), jax.tree.leaves(want), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-6)
  kept = text.replace(")", ", statistics='kept')")
  cases.assert_same(
    cases.estimate(*cases.own(model, kept)).stats, given[1].stats
  )


@pytest.mark.slow
def test_statistics_of_the_backward_pass_stay():
  """There is none."""
  model = cases.Small("power_norm(warmup_steps=0)")
  (first, last), _ = cases.steps(*cases.own(model, "zeroth_order"))
  assert jax.tree.leaves(last.grad_stats)
  cases.assert_same(first.grad_stats, last.grad_stats)


@pytest.mark.slow
def test_a_run_resumes_to_the_last_bit_alone_and_beside_others(tmp_path):
  """And members that differ in eps and rate are of one program."""
  lanes = {
    "a": {"seed": 1},
    "b": {"seed": 1, "train.perturbation_eps": 1e-2},
  }
  configs = {
    name: cases.mlp("zeroth_order", {"train.num_steps": 4}, change)
    for name, change in lanes.items()
  }
  results = entry.run_together(
    [entry.Run(c, tmp_path / name) for name, c in configs.items()], most=2
  )
  assert [result["state"] for result in results] == ["done"] * 2
  config, alone = configs["b"], tmp_path / "alone"
  straight = train.run(config, alone)
  np.testing.assert_allclose(
    results[1]["metrics"]["eval/loss"], straight["metrics"]["eval/loss"],
    rtol=1e-5,
  )  # fmt: skip
  parts = tmp_path / "parts"

  def observe(*seen):
    if seen == ("step", 1):
      os.kill(os.getpid(), signal.SIGTERM)

  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    train.run(config, parts, observe)
  resumed = train.run(config, parts)
  assert files.read_json(parts / files.RUN)["resumed_at_steps"] == [2]
  assert resumed["metrics"] == straight["metrics"]
  assert support.rows(parts, "train") == support.rows(alone, "train")


MISTAKES = {
  "zeroth_ordre": "unknown gradient 'zeroth_ordre'.*zeroth_order",
  "zeroth_order(eps=1e-3)": "no option 'eps'",
  "zeroth_order(derivative='central')": "derivative='central'.*two_sided",
  "zeroth_order(num_directions=0)": "num_directions=0.*>= 1",
  "zeroth_order(num_directions=2.0)": "num_directions=2.0",
  "zeroth_order(sparsity=1.0)": "sparsity=1.0",
  "zeroth_order(sparsity=-0.1)": "sparsity=-0.1",
  "zeroth_order(num_directions=2147483648)": "num_directions=.*<= 2147483647",
  "zeroth_order(sparsity=0.5, resample_steps=2147483648)": "<= 2147483647",
  "zeroth_order(resample_steps=5)": "resample_steps=5.*without sparsity",
  "zeroth_order(blocks='layer')": "blocks='layer'.*layers",
  "zeroth_order(layer_sparsity='magnitude')": (
    "layer_sparsity='magnitude'.*'equal' without sparsity"
  ),
  "zeroth_order(sparsity=0.5, layer_sparsity='synflow')": (
    "layer_sparsity='synflow'.*magnitude"
  ),
  "zeroth_order(statistics='twice')": "statistics='twice'.*once.*kept",
  "zeroth_order(first_order_layers=-1)": "first_order_layers=-1",
  "zeroth_order(sign=1)": "sign=1",
  "zeroth_order(": "is not a name",
  "backpropagation(q=1)": "no option 'q'",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(text):
  with pytest.raises(
    errors.UserError, match=f"train.gradient=.*{MISTAKES[text]}"
  ):
    check.check(cases.mlp(text))


@pytest.mark.parametrize("eps", [0.0, -1e-3, math.nan, math.inf, 1e-50])
def test_an_eps_that_moves_nothing_or_is_none(eps):
  with pytest.raises(errors.UserError, match="perturbation_eps=.* must be"):
    check.check(cases.mlp("zeroth_order", {"train.perturbation_eps": eps}))


def test_an_eps_that_rounds_away_is_said():
  """By the next number of each, in the dtype that layers read."""
  for dtype in (jnp.bfloat16, jnp.float32):
    for eps in (1e-2, 1e-3, 1e-4, 2.0**-8):
      least = rounded_away.bound(eps, dtype.dtype.name)
      for w, is_moved in ((least, False), (0.499 * least, True)):
        # 1.01: of a tie the even one is taken.
        moved = jnp.asarray(np.float64(w) + 1.01 * eps).astype(dtype)
        assert bool(moved != jnp.asarray(w).astype(dtype)) == is_moved
  config = cases.mlp("zeroth_order")
  half = {"train.precision": "bfloat16", "train.perturbation_eps": 1e-4}
  roles = model_roles.of(cases.Small())
  params = nn_variables.split(cases.Small())[1]["params"]
  (said,) = rounded_away.notes(configure.override(config, half), roles, params)
  assert "perturbation_eps=0.0001" in said
  assert "'bfloat16'" in said
  assert "from 0.03125 on" in said
  plain = {
    "train.precision": "bfloat16",
    "train.gradient": "backpropagation",
  }
  for change in ({}, plain):
    changed = configure.override(config, change)
    assert rounded_away.notes(changed, roles, params) == ()
  # Scales of norms, here 1, do not count.
  norms = {"norm": params["norm"]}
  assert (
    rounded_away.notes(configure.override(config, half), roles, norms) == ()
  )


def test_clipping_of_an_estimate_is_said():
  clipped = {"train.gradient_clip": 1.0}
  config = configure.override(cases.mlp("zeroth_order"), clipped)
  (said,) = gradient.notes(config)
  assert "train.gradient_clip=1 beside train.gradient='zeroth_order'" in said
  off = {"train.gradient_clip": 0.0}
  assert gradient.notes(configure.override(config, off)) == ()
  plain = configure.override(cases.mlp("backpropagation"), clipped)
  assert gradient.notes(plain) == ()


@pytest.mark.slow
def test_losses_that_are_not_finite_are_a_divergence():
  """Beside an update that none of three losses is in favour of."""
  text = "zeroth_order(derivative='one_sided', conservative=True)"
  recipe, state, batch, hyper = cases.own(cases.Small(), text)
  batch["inputs"] = batch["inputs"].at[0, 0].set(jnp.nan)
  (first, last), (row,) = cases.steps(recipe, state, batch, hyper)
  assert math.isnan(row["loss"])
  assert row["diverged_at"] == 0
  cases.assert_same(first.params, last.params)


@pytest.mark.slow
def test_spikes_pass_on_a_slope():
  """Steps that no gradient passes; the losses see them."""
  config = configure.override(
    configure.load("configs/default.py"),
    {k: v for k, v in support.RESNET.items() if not k.startswith("model.")}
    | {"model.name": "spiking_mlp", "norm.name": "identity"}
    | {"train.gradient": "zeroth_order", "train.perturbation_eps": 0.1},
  )
  _, (row,) = cases.steps(*cases.setup(config))
  assert 0 < row["grad_norm"] < math.inf
  assert row["diverged_at"] == -1


@pytest.mark.slow
def test_devices_and_an_average_of_weights(tmp_path):
  """Two devices do as one; each has the same z, the average the same w."""
  changes = {
    "train.gradient": "zeroth_order(sparsity=0.5, layer_sparsity='magnitude')",
    "train.num_steps": 3,
    "train.ema_decay": 0.5,
    "evaluate.weights": "ema",
  }
  found = [
    train.run(
      cases.mlp(changes["train.gradient"], changes, {"train.num_devices": n}),
      tmp_path / str(n),
    )
    for n in (1, 2)
  ]
  losses = [result["metrics"]["eval/loss"] for result in found]
  np.testing.assert_allclose(*losses, rtol=1e-5)
  assert [result["forwards_per_step"] for result in found] == [2, 2]
  rows = [support.rows(tmp_path / str(n), "train") for n in (1, 2)]
  for one, two in zip(*rows, strict=True):
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-5)


def test_what_is_not_taken_is_not_made_up_for():
  """Kahan's rest would hold the update that made the loss larger."""
  changes = {"train.param_dtype": "bfloat16", "train.param_rounding": "kahan"}
  check.check(cases.mlp("zeroth_order", changes))
  with pytest.raises(errors.UserError, match="rounding='kahan'; allowed"):
    check.check(cases.mlp("zeroth_order(conservative=True)", changes))


def test_a_procedure_with_gradients_of_its_own():
  change = {"continual.learner": "derpp(alpha=0.1, beta=0.5)"}
  with pytest.raises(errors.UserError, match="allowed: 'backpropagation'"):
    gradient.of(cases.mlp("zeroth_order", change))


@pytest.mark.parametrize(
  "text", ["backpropagation", "zeroth_order(derivative='forward')"]
)
def test_an_eps_that_nothing_reads(text):
  with pytest.raises(errors.UserError, match="perturbation_eps=0.01.*not read"):
    check.check(cases.mlp(text, {"train.perturbation_eps": 0.01}))


def test_eps_is_traced_at_its_default_too():
  configs = [
    cases.mlp("zeroth_order", {"train.perturbation_eps": eps})
    for eps in (1e-3, 1e-2)
  ]
  keys = {build.program_key(config) for config in configs}
  assert len(keys) == 1
  assert all("train.perturbation_eps" in build.hyper(c) for c in configs)
  plain = configure.to_dict(support.tiny_mlp())["train"]
  assert not {"gradient", "perturbation_eps"} & set(plain)


@pytest.mark.parametrize(
  "name",
  [
    "cifar_resnet",
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in (
        "vit", "gpt2", "spiking_mlp", "nfnet", "fixup_cifar_resnet",
        "cifar_nf_resnet",
      )
    ),
  ],
)  # fmt: skip
def test_any_model(name):
  """In shapes: its leaves are drawn wherever it reads them."""
  base = support.DECODER if name == "gpt2" else support.RESNET
  sized = name in ("gpt2", "cifar_resnet")
  config = configure.override(
    configure.load("configs/default.py"),
    {k: v for k, v in base.items() if sized or not k.startswith("model.")}
    | {"model.name": name, "train.gradient": "zeroth_order"}
    | {"norm.name": "layer_norm" if name == "vit" else "identity"},
  )
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  batch = dict(data.train_batch(0, 0, 8))
  state = jax.eval_shape(initialize, hyper, batch)
  moved, _ = jax.eval_shape(
    functools.partial(train_step.train_step, recipe), state, batch, hyper
  )
  shapes = [jax.tree.map(jnp.shape, s.params) for s in (moved, state)]
  assert shapes[0] == shapes[1]
