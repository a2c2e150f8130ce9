"""Training steps whose bytes `compiled` counts, and peers of flax.linen."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from kernels_pallas.bench.passes import Pass
from normjax import build, configure
from normjax.bench import linen_models
from normjax.data.dataset import Batch
from normjax.train import precision as precision_lib
from normjax.train import program
from normjax.train import step as train_step


@dataclasses.dataclass(frozen=True)
class Blank:
  """A data set of zeros: only its shapes matter."""

  reads: str
  shape: tuple[int, ...]
  model_options: Mapping[str, Any]
  name: str = "blank"
  targets: str = "classes"
  bytes_per_token: float | None = None
  provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def train_batch(self, seed: int, step: int, batch_size: int) -> Batch:
    """Of inputs, targets and weights."""
    del seed, step
    of_tokens = self.reads == "tokens"
    labels = (batch_size, *(self.shape if of_tokens else ()))
    dtype = np.int32 if of_tokens else np.float32
    return {
      "inputs": np.zeros((batch_size, *self.shape), dtype),
      "targets": np.zeros(labels, np.int32),
      "weight": np.ones(labels, np.float32),
    }

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[Batch]:
    """As in training."""
    for _ in range(num_batches or 1):
      yield self.train_batch(0, 0, batch_size)


def tokens(vocab_size: int, length: int) -> Blank:
  """For configs: `data.name = "normjax.bench.compiled_steps:tokens"`."""
  return Blank("tokens", (length,), {"vocab_size": vocab_size})


def images(num_classes: int, side: int) -> Blank:
  """For configs, as `tokens`."""
  shape = side, side, 3
  options = {"num_classes": num_classes, "input_shape": shape}
  return Blank("images", shape, options)


@dataclasses.dataclass(frozen=True)
class Model:
  """A model of both.

  Attributes:
    overrides: of the default config.
    peer: the module of flax.linen, from the dtype of its activations.
  """

  overrides: Mapping[str, Any]
  peer: Callable[[Any], linen.Module]


def _of_tokens(batch_size: int, length: int, vocab_size: int):
  return {
    "train.batch_size": batch_size,
    "data.name": f"{__name__}:tokens",
    "data.length": length,
    "data.vocab_size": vocab_size,
  }


_IMAGES = {
  "train.batch_size": 128,
  "data.name": f"{__name__}:images",
  "data.side": 224,
  "data.num_classes": 1000,
}
MODELS: Mapping[str, Model] = {
  "llama_60m": Model(
    {
      "model.name": "llama",
      "model.size": "60m",
      "norm.name": "rms_norm",
      **_of_tokens(32, 256, 32000),
    },
    lambda dtype: linen_models.LanguageModel(
      32000, 8, 8, 512, 1376, gated=True, dtype=dtype
    ),
  ),
  "gpt2_small": Model(
    {
      "model.name": "gpt2",
      "model.size": "small",
      "norm.name": "layer_norm",
      **_of_tokens(8, 1024, 50257),
    },
    lambda dtype: linen_models.LanguageModel(
      50257, 12, 12, 768, 3072, gated=False, dtype=dtype
    ),
  ),
  "vit_small": Model(
    {
      "model.name": "vit",
      "model.size": "small",
      "model.patch_size": 16,
      "norm.name": "layer_norm",
      **_IMAGES,
    },
    lambda dtype: linen_models.ViT(dtype),
  ),
  "resnet50": Model(
    {"model.name": "resnet", "norm.name": "batch_norm", **_IMAGES},
    lambda dtype: linen_models.ResNet50(dtype),
  ),
}


def config(name: str, precision: str, **overrides: Any):
  """The config of a model's training with AdamW."""
  return configure.override(
    configure.load("configs/default.py"),
    {
      "optimizer.name": "adamw",
      "train.precision": precision,
      **MODELS[name].overrides,
      **overrides,
    },
  )


def step(config: configure.ConfigDict) -> Pass:
  """Our training step of a config, its state overwritten.

  Call it in the block of `aot.abstract`: what is traced decides.
  """
  return recipe_and_step(config)[1]


def recipe_and_step(
  config: configure.ConfigDict,
) -> tuple[train_step.Recipe, Pass]:
  """The same, behind what it is made from."""
  recipe, initialize = program.recipe_and_initialize(config)
  batch = build.dataset(config).train_batch(0, 0, config.train.batch_size)
  shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
  hyper = jax.eval_shape(lambda: build.hyper(config))
  state = jax.eval_shape(initialize, hyper, shapes)
  function = functools.partial(train_step.train_step, recipe)
  return recipe, Pass("step", function, (state, shapes, hyper), (0,))


def ours(name: str, precision: str, **overrides: Any) -> Pass:
  """Our step of a model in `MODELS`."""
  return step(config(name, precision, **overrides))


def peer(name: str, precision: str) -> Pass:
  """The same with flax.linen and optax: clipped, AdamW, with its norms.

  Its products are as precise as ours: left alone a GPU would round them.
  """
  module = MODELS[name].peer(jnp.dtype(precision))
  made = config(name, precision)
  batch = build.dataset(made).train_batch(0, 0, made.train.batch_size)
  shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
  inputs, targets = shapes["inputs"], shapes["targets"]
  variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
  state = variables, jax.eval_shape(tx.init, variables["params"])

  def function(state, inputs, targets):
    variables, optimizer_state = state

    def mean_loss(params):
      logits, changed = module.apply(
        {**variables, "params": params}, inputs, mutable=["batch_stats"]
      )
      logits = logits.astype(jnp.float32)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
      right = jnp.mean(jnp.argmax(logits, -1) == targets)
      return jnp.mean(losses), (right, changed)

    with precision_lib.applied(precision_lib.choice(made)):
      (loss, (right, changed)), gradients = jax.value_and_grad(
        mean_loss, has_aux=True
      )(variables["params"])
    updates, optimizer_state = tx.update(
      gradients, optimizer_state, variables["params"]
    )
    params = optax.apply_updates(variables["params"], updates)
    metrics = loss, right, optax.tree.norm(gradients), optax.tree.norm(updates)
    return (
      {**variables, **changed, "params": params},
      optimizer_state,
    ), metrics

  return Pass("step", function, (state, inputs, targets), (0,))
