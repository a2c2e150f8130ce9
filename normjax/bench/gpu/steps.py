"""Training steps of whole models, a LLaMA's beside flax.linen and optax."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from normjax import models, optim
from normjax.bench import contest, linen_llama, model_families
from normjax.bench.gpu import clock
from normjax.bench.gpu.worker import Stage


class Model(NamedTuple):
  """A model that is trained on random data.

  Attributes:
    name: in `normjax.models`.
    options: its sizes.
    batch: shape of the inputs: (b, t) tokens or (b, y, x, c) images.
    num_outputs: words or classes.
  """

  name: str
  options: Mapping[str, Any]
  batch: tuple[int, ...]
  num_outputs: int


_IMAGE = (224, 224, 3)
_IMAGENET = {"num_classes": 1000, "input_shape": _IMAGE}
# In the order of their value.
MODELS: Mapping[str, Model] = {
  "llama_60m": Model(
    "llama", model_families.MODELS["llama_60m"].sizes, (64, 256), 32_000
  ),
  "gpt2": Model(
    "gpt2", {"size": "small", "vocab_size": 50_257}, (16, 1024), 50_257
  ),
  "vit_small": Model(
    "vit",
    {"size": "small", "patch_size": 16, **_IMAGENET},
    (128, *_IMAGE),
    1000,
  ),
  "resnet50": Model("resnet", {"depth": 50, **_IMAGENET}, (128, *_IMAGE), 1000),
}
TINY: Mapping[str, Model] = {
  "tiny": Model("llama", model_families.MODELS["tiny"].sizes, (2, 8), 64)
}
PRECISIONS = ("bfloat16", "float32")


def run(stage: Stage) -> None:
  """Ours in both precisions; of a LLaMA the peer, too."""
  for name, model in (TINY if stage.tiny else MODELS).items():
    for precision in PRECISIONS:
      with stage.item(f"normjax {name} {precision}") as found:
        found |= _measure(stage, model, precision, ours(model, precision))
      if model.name == "llama":
        with stage.item(f"flax.linen {name} {precision}") as found:
          found |= _measure(stage, model, precision, _linen(model, precision))


Made = tuple[model_families.Init, model_families.Apply, Any]


def ours(model: Model, precision: str) -> Made:
  """Our model with AdamW: (init, apply, optimizer)."""

  def make():
    options = {**model.options, "compute_dtype": precision}
    return models.make(model.name, **options, rngs=nnx.Rngs(0))

  init, apply = model_families.of(make)
  return init, apply, optim.make("adamw", learning_rate=1e-3, weight_decay=0.1)


def _linen(model: Model, precision: str) -> Made:
  module = linen_llama.Llama(
    **model.options, scanned=False, dtype=jnp.dtype(precision)
  )
  sample = jnp.zeros((1, *model.batch[1:]), jnp.int32)
  init, apply = model_families.flax(module, sample)
  return init, apply, optax.adamw(1e-3, weight_decay=0.1)


def _measure(
  stage: Stage, model: Model, precision: str, made: Made
) -> dict[str, Any]:
  """Seconds of a step, examples per second, MFU, memory."""
  init, apply, tx = made
  inputs, targets = batch(model)
  state = model_families.state_of(init, tx)
  flops = 3 * _flops(apply, state, inputs)  # Forward, and twice backward.
  with products(precision):
    ran = contest.from_step(
      model.name, model_families.step_of(apply, tx), state, inputs, targets
    )
    found = {**ran.facts, **clock.timed(ran.run)}
  rate = stage.facts.get(f"{precision}_tflop_per_s")
  per_s = flops / 1e12 / found["seconds"]
  return {
    **found,
    "batch": list(model.batch),
    "examples_per_s": targets.size / found["seconds"],
    "unit": "tokens" if targets.ndim == 2 else "images",
    "tflop_per_step": flops / 1e12,
    # Of the rate of a large product in this precision, in this run.
    "mfu": rate and per_s / rate,
    "peak_bytes_of_process": clock.peak_bytes(),
  }


def products(precision: str) -> contextlib.AbstractContextManager[None]:
  """As `train` does: products of float32 are products of float32."""
  return jax.default_matmul_precision(
    "highest" if precision == "float32" else "default"
  )


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
