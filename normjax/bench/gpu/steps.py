"""Training steps of whole models, beside flax.linen and optax."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

from normjax import configure, models, optim
from normjax.bench import contest, linen_llama, linen_models, model_families
from normjax.bench.gpu import clock
from normjax.bench.gpu.worker import Stage
from normjax.train import precision as precision_lib


class Model(NamedTuple):
  """A model that is trained on random data.

  Attributes:
    name: in `normjax.models`.
    options: its sizes.
    batch: shape of the inputs: (b, t) tokens or (b, y, x, c) images.
    num_outputs: words or classes.
    peer: the module of flax.linen, from the dtype of its activations.
  """

  name: str
  options: Mapping[str, Any]
  batch: tuple[int, ...]
  num_outputs: int
  peer: Callable[..., linen.Module]


_IMAGE = (224, 224, 3)
_IMAGENET = {"num_classes": 1000, "input_shape": _IMAGE}
_LLAMA = model_families.MODELS["llama_60m"].sizes
# In the order of their value.
MODELS: Mapping[str, Model] = {
  "llama_60m": Model(
    "llama",
    _LLAMA,
    (64, 256),
    32_000,
    functools.partial(linen_llama.Llama, **_LLAMA, scanned=False),
  ),
  "gpt2": Model(
    "gpt2",
    {"size": "small", "vocab_size": 50_257},
    (16, 1024),
    50_257,
    functools.partial(
      linen_models.LanguageModel, 50_257, 12, 12, 768, 3072, gated=False
    ),
  ),
  "vit_small": Model(
    "vit",
    {"size": "small", "patch_size": 16, **_IMAGENET},
    (128, *_IMAGE),
    1000,
    linen_models.ViT,
  ),
  "resnet50": Model(
    "resnet",
    {"depth": 50, **_IMAGENET},
    (128, *_IMAGE),
    1000,
    linen_models.ResNet50,
  ),
}

_SMALL = {"num_layers": 1, "num_heads": 2, "model_dim": 16, "hidden_dim": 32}
_ICON = (32, 32, 3)
_ICONS = {"num_classes": 4, "input_shape": _ICON}
TINY: Mapping[str, Model] = {
  "llama": Model(
    "llama",
    {"vocab_size": 64, **_SMALL},
    (2, 8),
    64,
    functools.partial(linen_llama.Llama, 64, **_SMALL, scanned=False),
  ),
  "gpt2": Model(
    "gpt2",
    {"vocab_size": 64, **_SMALL},
    (2, 8),
    64,
    functools.partial(linen_models.LanguageModel, 64, **_SMALL, gated=False),
  ),
  "vit": Model(
    "vit",
    {"patch_size": 16, **_SMALL, **_ICONS},
    (2, *_ICON),
    4,
    functools.partial(linen_models.ViT, **_SMALL, num_classes=4),
  ),
  "resnet": Model(
    "resnet",
    {"depth": 50, "width": 4, **_ICONS},
    (2, *_ICON),
    4,
    functools.partial(linen_models.ResNet50, width=4, num_classes=4),
  ),
}
# Of the arithmetic of models. What is left of float32 products is as `train`
# has it.
PRECISIONS = ("bfloat16", "float32")
PRODUCTS = configure.OPTIONAL[precision_lib.KEY]


def run(stage: Stage) -> None:
  """Ours and the peer, in both precisions."""
  for name, model in (TINY if stage.tiny else MODELS).items():
    for precision in PRECISIONS:
      for who, make in (("normjax", ours), ("flax.linen", _linen)):
        with stage.item(f"{who} {name} {precision}") as found:
          _measure(stage, found, model, precision, make(model, precision))


Made = tuple[model_families.Init, model_families.Apply, Any]


def ours(model: Model, precision: str) -> Made:
  """Our model with AdamW: (init, apply, optimizer)."""

  def make():
    options = {**model.options, "compute_dtype": precision}
    return models.make(model.name, **options, rngs=nnx.Rngs(0))

  init, apply = model_families.of(make)
  return init, apply, optim.make("adamw", learning_rate=1e-3, weight_decay=0.1)


def _linen(model: Model, precision: str) -> Made:
  """The peer with optax's AdamW, its logits in float32 for the loss as ours."""
  dtype = jnp.int32 if len(model.batch) == 2 else jnp.float32
  sample = jnp.zeros((1, *model.batch[1:]), dtype)
  module = model.peer(dtype=jnp.dtype(precision))
  init, apply_module = model_families.flax(module, sample)

  def apply(params, stats, inputs):
    logits, new = apply_module(params, stats, inputs)
    return logits.astype(jnp.float32), new

  return init, apply, optax.adamw(1e-3, weight_decay=0.1)


def _measure(
  stage: Stage,
  found: dict[str, Any],
  model: Model,
  precision: str,
  made: Made,
) -> None:
  """Seconds of a step, examples per second, MFU, memory; into `found`."""
  init, apply, tx = made
  inputs, targets = batch(model)
  state = model_families.state_of(init, tx)
  flops = 3 * _flops(apply, state, inputs)  # Forward, and twice backward.
  with precision_lib.applied(PRODUCTS):
    ran = contest.from_step(
      model.name, model_families.step_of(apply, tx), state, inputs, targets
    )
  found |= {
    **ran.facts,
    "batch": list(model.batch),
    "unit": "tokens" if targets.ndim == 2 else "images",
    "tflop_per_step": flops / 1e12,
  }
  clock.measure(found, ran.run)
  rate = stage.facts.get(f"{precision}_tflop_per_s")
  per_s = flops / 1e12 / found["seconds"]
  found |= {
    "examples_per_s": targets.size / found["seconds"],
    # Of the rate of a large product in this precision, in this run.
    "mfu": rate and per_s / rate,
    "peak_bytes_of_process": clock.peak_bytes(),
  }


def batch(model: Model) -> tuple[jax.Array, jax.Array]:
  """Random inputs and targets."""
  keys = jax.random.split(jax.random.key(1))
  if len(model.batch) == 2:
    draw = [jax.random.randint(k, model.batch, 0, model.num_outputs)
            for k in keys]  # fmt: skip
    return draw[0], draw[1]
  images = jax.random.normal(keys[0], model.batch)
  classes = jax.random.randint(keys[1], model.batch[:1], 0, model.num_outputs)
  return images, classes


def _flops(apply: Callable[..., Any], state: Any, inputs: jax.Array) -> float:
  """The compiler's count of the forward pass, before it changes anything."""
  params, stats, _ = state
  lowered = jax.jit(apply).lower(params, stats, inputs)
  return (lowered.cost_analysis() or {}).get("flops", 0.0)
