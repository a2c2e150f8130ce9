"""ReLoRA in training: merges, what is drawn again, what is reset."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import build, errors, optim
from normjax.nn import variables as nn_variables
from normjax.nn.linear import lora, restarting
from normjax.nn.linear.restarting import Restarts
from normjax.optim import groups
from normjax.train import check, param_dtype, program, restarts, step
from normjax.train.state import create
from tests import support

RELORA = "relora(rank=4, alpha=8.0, restart_every=2)"


def test_layers_restart_after_every_second_step():
  """The model stays what it is; factors and their moments start again."""
  config = support.tiny({"model.linear": RELORA})
  recipe, initialize = program.recipe_and_initialize(config)
  assert recipe.layer_restarts == Restarts(2)
  hyper = build.hyper(config)
  batch = dict(build.dataset(config).train_batch(0, 0, config.train.batch_size))
  one = jax.jit(functools.partial(step.train_step, recipe))
  without = jax.jit(
    functools.partial(step.train_step, recipe._replace(layer_restarts=None))
  )
  first, _ = one(jax.jit(initialize)(hyper), batch, hyper)
  second, _ = one(first, batch, hyper)
  plain, _ = without(first, batch, hyper)

  def query(tree):
    return tree["layers"]["0"]["attention"]["query"]

  before, after = query(plain.params), query(second.params)
  kernel, old = query(second.stats)["frozen_kernel"], query(plain.stats)
  assert np.any(before["lora_b"])
  assert not np.any(after["lora_b"])
  assert (after["lora_a"] != before["lora_a"]).all()
  np.testing.assert_allclose(
    kernel,
    old["frozen_kernel"] + 2.0 * before["lora_a"] @ before["lora_b"],
    rtol=1e-5,
    atol=1e-7,
  )
  # What else is trained goes on, and so does the count of steps.
  np.testing.assert_array_equal(
    second.params["head"]["kernel"], plain.params["head"]["kernel"]
  )
  adam = second.optimizer_state[0]
  assert not np.any(query(adam.mu)["lora_a"])
  assert not np.any(query(adam.nu)["lora_b"])
  assert np.any(adam.mu["head"]["kernel"])
  assert int(adam.count) == 2
  # A restart moves no output, up to the rounding of the sum.
  losses = [one(state, batch, hyper)[1]["loss"] for state in (second, plain)]
  np.testing.assert_allclose(*losses, rtol=1e-5)


def test_an_average_across_restarts_is_refused():
  config = support.tiny({"model.linear": RELORA, "train.ema_decay": 0.9})
  with pytest.raises(errors.UserError, match="ema_decay=0.9.*allowed: 0.0"):
    program.recipe_and_initialize(config)


def test_other_layers_do_not_restart():
  for linear in ("lora(rank=4)", "sltrain(rank=4)"):
    config = support.tiny({"model.linear": linear})
    recipe, _ = program.recipe_and_initialize(config)
    assert recipe.layer_restarts is None
  assert restarts.of(support.tiny(), None, {}) is None


class _Layer(nnx.Module):
  """A restarting matrix, and one beside it."""

  def __init__(self, rngs):
    self.restarting = lora.relora(rank=4, restart_every=2).make(
      16,
      16,
      use_bias=False,
      kernel_init=nnx.initializers.lecun_normal(),
      dtype=jnp.float32,
      rngs=rngs,
    )
    self.beside = nnx.Linear(16, 16, rngs=rngs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["dion", "soap", "adamw_8bit"])
def test_what_the_optimizer_holds_starts_again(name, dtype):
  """As at first: a basis of zeros would keep the factors where they are."""
  structure, variables = nn_variables.split(_Layer(nnx.Rngs(0)))
  params = param_dtype.narrow(variables["params"], dtype)
  tx = optim.rounded_parameters(optim.make(name, learning_rate=0.1), "kahan")
  first = tx.init(params)
  spoilt = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3), first)
  state = create({**variables, "params": params}, spoilt)
  state = state._replace(step=jnp.int32(2))
  after = restarts.after_step(
    structure, state, Restarts(2), jax.random.key(1), tx.init
  )
  dtypes = [[x.dtype for x in jax.tree.leaves(s)] for s in (after, state)]
  assert dtypes[0] == dtypes[1]
  leaves = zip(
    groups.leaves(after.optimizer_state), jax.tree.leaves(first), strict=True
  )
  count = 0
  for (path, leaf), start in leaves:
    restarts_here = path.endswith(("lora_a", "lora_b"))
    count += restarts_here
    expected = start if restarts_here else jnp.full_like(leaf, 3)
    np.testing.assert_array_equal(leaf, expected, err_msg=path)
  assert count >= 4


OFFICIAL = "tests/nn/linear/official/relora_training.npz"


@pytest.mark.parametrize("case", range(3))
def test_the_smallest_moments_go_as_in_the_official_code(case):
  with np.load(OFFICIAL) as file:
    moment, there = file["moment"], file[f"pruned_{case}"]
    ratio = float(file["ratios"][case])
  # Theirs rounds the threshold to float32 too, of float64 moments.
  with jax.enable_x64(True):
    ours = restarting.prune_magnitude(jnp.asarray(moment), ratio)
  np.testing.assert_array_equal(ours, there)
  assert 0 < np.count_nonzero(ours) < moment.size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("reset", ["random", "magnitude"])
def test_moments_are_pruned_in_part(reset, dtype):
  """What is left is as it was; what else is trained keeps all of its own."""
  structure, variables = nn_variables.split(_Layer(nnx.Rngs(0)))
  params = variables["params"]
  tx = optim.adamw(0.1)
  shapes = tx.init(params)
  drawn = [
    jax.random.normal(jax.random.key(n), leaf.shape).astype(
      leaf.dtype if leaf.ndim == 0 else dtype
    )
    for n, leaf in enumerate(jax.tree.leaves(shapes))
  ]
  held = jax.tree.structure(shapes).unflatten(drawn)
  state = create(variables, held)._replace(step=jnp.int32(3))
  found = Restarts(4, adjust_steps=1, reset=reset, prune_ratio=0.75)
  after = restarts.after_step(
    structure, state, found, jax.random.key(1), tx.init
  )
  assert not np.any(after.params["restarting"]["lora_b"])
  kept = []
  leaves = zip(
    groups.leaves(after.optimizer_state), jax.tree.leaves(held), strict=True
  )
  for (path, leaf), old in leaves:
    assert leaf.dtype == old.dtype
    if not path.endswith(("lora_a", "lora_b")):
      np.testing.assert_array_equal(leaf, old, err_msg=path)
      continue
    stays = np.asarray(leaf != 0)
    np.testing.assert_array_equal(leaf[stays], old[stays])
    kept.append(stays)
    if reset == "magnitude":
      # A quarter of 64, and fewer where bfloat16 has ties at the threshold.
      assert stays.sum() == 16 if dtype == "float32" else stays.sum() <= 16
      assert abs(old[stays]).min() > abs(old[~stays]).max()
  assert len(kept) == 4
  # Of 256 draws; 5 standard deviations of a binomial are 35.
  assert abs(sum(mask.sum() for mask in kept) - 64) < 35
  if reset == "random":  # Each leaf has draws of its own.
    assert len({mask.tobytes() for mask in kept}) == 4


def test_nothing_restarts_before_it_is_due():
  found = Restarts(5, adjust_steps=2)
  due = np.flatnonzero(found.due(jnp.arange(1, 20))) + 1
  np.testing.assert_array_equal(due, [3, 8, 13, 18])


PRUNED = RELORA[:-1] + ", reset='magnitude', prune_ratio=0.5)"


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"optimizer.name": "soap"}, "optimizer 'soap' holds .*reset='start'"),
    (
      {"optimizer.name": "adamw_8bit", "optimizer.min_size": 1},
      "optimizer 'adamw_8bit' holds .*uint8",
    ),
    (
      {"optimizer.name": "optax.contrib:schedule_free_sgd"},
      "schedule_free_sgd' holds parameters.*reset='start'",
    ),
    (
      {"train.param_dtype": "bfloat16", "train.param_rounding": "kahan"},
      "train.param_rounding='kahan' keeps",
    ),
  ],
)
def test_what_is_no_moment_is_not_pruned(changes, said):
  config = support.tiny({"model.linear": PRUNED, **changes})
  with pytest.raises(errors.UserError, match=said):
    program.recipe_and_initialize(config)
  whole = support.tiny({**changes, "model.linear": RELORA})
  assert program.recipe_and_initialize(whole)[0].layer_restarts


@pytest.mark.parametrize("linear", [RELORA, "low_rank(rank=4)"])
def test_factors_of_what_keeps_its_norm_are_refused(linear):
  """To its first norm, zero, B would be put back at each step."""
  changes = {"model.linear": linear, "optimizer.name": "nap_adamw"}
  with pytest.raises(
    errors.UserError, match="factors of them.*allowed: 'dense'"
  ):
    check.check(support.tiny(changes))
  check.check(support.tiny({"optimizer.name": "nap_adamw"}))
