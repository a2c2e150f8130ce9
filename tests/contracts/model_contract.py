"""What every model must do; `tests/models/test_contract.py` runs it on all."""

import jax
import jax.numpy as jnp
import numpy as np

from normjax import models
from normjax.nn import variables as nn_variables

# Fresh running statistics leave currents small; no layer falls silent.
_EXCITABLE = {"threshold": 0.1}
# A spike is decided by rounding where a potential is at the threshold. What
# compares dtypes takes the same network with a smooth step.
SMOOTH = {
  name: {"neuron": {**_EXCITABLE, "graded": True}}
  for name in ("spiking_mlp", "spiking_vgg", "sew_resnet")
}
# Small enough to compile in a second; a later model needs no line here unless
# its defaults are large.
SIZES = {
  "llama": {"num_layers": 2, "num_heads": 2, "model_dim": 16, "vocab_size": 23},
  "gpt2": {"num_layers": 2, "num_heads": 2, "model_dim": 16, "vocab_size": 23},
  "vit": {
    "num_layers": 2,
    "num_heads": 2,
    "model_dim": 16,
    "input_shape": (8, 8, 3),
  },
  "cifar_resnet": {"depth": 8, "width": 4, "input_shape": (8, 8, 3)},
  "resnet": {
    "num_classes": 10,
    "blocks_per_stage": (1, 1),
    "width": 4,
    "input_shape": (8, 8, 3),
  },
  "fixup_cifar_resnet": {"depth": 8, "width": 4, "input_shape": (8, 8, 3)},
  "mlp": {"num_layers": 2, "hidden_dim": 16, "input_shape": (12,)},
  "nf_resnet": {
    "num_classes": 10,
    "blocks_per_stage": (1,),
    "width": 1,
    "input_shape": (8, 8, 3),
  },
  "cifar_nf_resnet": {"depth": 11, "width": 1, "input_shape": (8, 8, 3)},
  "nfnet": {
    "num_classes": 10,
    "widths": (16,),
    "blocks_per_stage": (1,),
    "group_size": 4,
    "input_shape": (8, 8, 3),
  },
  "spiking_mlp": {
    "depth": 4,
    "width": 20,
    "input_shape": (12,),
    "neuron": _EXCITABLE,
  },
  "spiking_vgg": {
    "depth": 8,
    "width": 4,
    "num_steps": 2,
    "input_shape": (8, 8, 3),
    "neuron": _EXCITABLE,
  },
  "sew_resnet": {
    "depth": 10,
    "width": 4,
    "num_steps": 2,
    "input_shape": (8, 8, 3),
    "neuron": _EXCITABLE,
  },
}
# What the contract runs with; in models without norms that is identity.
NORMS = ("rms_norm", "batch_norm")
WITHOUT_NORM = (
  "fixup_cifar_resnet",
  "nf_resnet",
  "cifar_nf_resnet",
  "nfnet",
)
# Many compiled shapes for what another one shows: nf_resnet has the class and
# the blocks of the first, spiking_vgg with batch_norm the layers of the spiking
# ones, cifar_resnet those of the other, llama the running statistics of both
# other transformers.
SLOW = (
  ("resnet", "batch_norm"),
  ("cifar_resnet", "rms_norm"),
  ("spiking_mlp", "rms_norm"),
  ("gpt2", "batch_norm"),
  ("vit", "batch_norm"),
  ("cifar_nf_resnet", "identity"),
  ("sew_resnet", "rms_norm"),
  ("sew_resnet", "batch_norm"),
  ("spiking_vgg", "rms_norm"),
)
_INPUTS = {
  "tokens": lambda r: r.integers(0, 23, (8, 6)).astype(np.int32),
  "images": lambda r: r.normal(size=(8, 8, 8, 3)).astype(np.float32),
  "features": lambda r: r.normal(size=(8, 12)).astype(np.float32),
}


def make(name, **options):
  """A tiny model and inputs for it."""
  model = models.make(name, **{**SIZES.get(name, {}), **options})
  return model, inputs(name)


def inputs(name):
  """Inputs for the tiny models of that name."""
  kind = sorted(models.get(name).reads)[0]
  return jnp.asarray(_INPUTS[kind](np.random.default_rng(0)))


# Of what some models draw in training.
KEY_SEED = 0


def objective(structure, inputs, train=True):
  """(params, variables) -> (a loss, new statistics)."""

  def loss(params, variables):
    model = nn_variables.merge(structure, {**variables, "params": params})
    logits = model(inputs, train=train, key=jax.random.key(KEY_SEED))
    return jnp.mean(jnp.square(logits - 1.0)), (
      logits,
      nn_variables.split(model)[1]["stats"],
    )

  return loss


def split_off_the_start(model):
  """As `split`, with parameters off the start, where a zero may hide others."""
  structure, variables = nn_variables.split(model)
  return structure, {**variables, "params": moved_off(variables["params"])}


def moved_off(params, size=0.01):
  """The parameters with a little noise."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: leaf + size * rng.normal(size=leaf.shape).astype(leaf.dtype),
    params,
  )


class ModelContract:
  """Parametrized by `name`, of a model, and `norm`, of a norm."""

  def test_logits_loss_and_gradients_are_finite(self, name, norm):
    model, inputs = make(name, norm=norm)
    structure, variables = split_off_the_start(model)
    params = variables["params"]
    gradient, (logits, stats) = jax.jit(
      jax.grad(objective(structure, inputs), has_aux=True)
    )(params, variables)
    assert logits.dtype == jnp.float32
    assert logits.shape[0] == inputs.shape[0]
    for leaf in jax.tree.leaves((gradient, logits, stats)):
      assert np.isfinite(leaf).all()
    # Every parameter has a say, so none is left out of the forward pass.
    moved = [np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient)]
    assert all(moved)

  def test_one_compilation_serves_every_batch(self, name, norm):
    model, inputs = make(name, norm=norm)
    structure, variables = split_off_the_start(model)
    traced = 0

    @jax.jit
    def logits(variables, inputs):
      nonlocal traced
      traced += 1
      return nn_variables.merge(structure, variables)(inputs, train=False)

    first = logits(variables, inputs)
    assert np.any(first != logits(variables, jnp.flip(inputs, axis=0)))
    assert traced == 1

  def test_statistics_move_in_training_only(self, name, norm):
    model, inputs = make(name, norm=norm)
    before = nn_variables.split(model)[1]["stats"]
    model(inputs, train=False)
    jax.tree.map(
      np.testing.assert_array_equal,
      nn_variables.split(model)[1]["stats"],
      before,
    )
    model(inputs, train=True, key=jax.random.key(KEY_SEED))
    after = nn_variables.split(model)[1]["stats"]
    # Skipped steps are counted only where there are any.
    moved = jax.tree_util.tree_map_with_path(
      lambda path, old, new: path[-1].key == "skips" or np.any(old != new),
      before,
      after,
    )
    assert all(jax.tree.leaves(moved))

  def test_bfloat16_computes_and_float32_is_kept(self, name, norm):
    smooth = SMOOTH.get(name, {})
    model, inputs = make(name, norm=norm, compute_dtype="bfloat16", **smooth)
    structure, variables = split_off_the_start(model)
    _, (logits, stats) = objective(structure, inputs)(
      variables["params"], variables
    )
    for leaf in jax.tree.leaves((variables, stats, logits)):
      # Counters aside.
      assert leaf.dtype in (jnp.float32, jnp.int32)
    # Not only float32 by name: rounded logits would all be bfloat16 numbers.
    assert np.any(logits != logits.astype(jnp.bfloat16).astype(jnp.float32))
    full, _ = make(name, norm=norm, **smooth)
    exact = nn_variables.merge(*split_off_the_start(full))(
      inputs, key=jax.random.key(KEY_SEED)
    )
    # bfloat16 keeps 8 bits; a handful of layers loses a few of them.
    scale = np.abs(exact).max()
    np.testing.assert_allclose(logits, exact, atol=2**-4 * scale)
    assert np.any(np.asarray(logits) != np.asarray(exact))
