"""Which models `normjax bench models` knows, and what is timed beside them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

from normjax import models, optim
from normjax.bench import linen_llama, linen_resnet
from normjax.nn import variables as nn_variables
from normjax.types import Array, PyTree

# () -> (parameters, statistics).
Init = Callable[[], tuple[PyTree, PyTree]]
# (parameters, statistics, inputs) -> (logits, new statistics).
Apply = Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
Sizes = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Family:
  """Models that differ in size only.

  Attributes:
    name: of ours, in `normjax.models`.
    options: from sizes to its options.
    variants: further options, by what the table calls them.
    flax: peers by name, from sizes.
    torch_module: the file of `torch_names`, which needs `torch_packages`.
    batch: (sizes, flags) -> inputs and targets.
    batch_sizes: flags that the PyTorch peers are told.
    optimizer: ours.
    flax_optimizer: the peers'.
    what: how notes call a step's batch and optimizer, from the flags.
  """

  name: str
  options: Callable[[Sizes], Mapping[str, Any]]
  variants: Mapping[str, Mapping[str, Any]]
  flax: Mapping[str, Callable[[Sizes], linen.Module]]
  torch_module: str
  torch_names: tuple[str, ...]
  torch_packages: tuple[str, ...]
  batch: Callable[[Sizes, Mapping[str, Any]], tuple[Array, Array]]
  batch_sizes: tuple[str, ...]
  optimizer: Callable[[], optax.GradientTransformation]
  flax_optimizer: Callable[[], optax.GradientTransformation]
  what: str


@dataclasses.dataclass(frozen=True)
class Model:
  """A model of a family.

  Attributes:
    family: in `FAMILIES`.
    sizes: what the family's functions take.
    batch_size: where no flag names one.
    depths: numbers of layers whose compilation is compared, or None.
  """

  family: str
  sizes: Sizes
  batch_size: int
  depths: tuple[int, int] | None = None


def ours(
  family: Family, sizes: Sizes, options: Mapping[str, Any]
) -> tuple[Init, Apply]:
  """Our model: its variables, and its forward pass.

  Raises:
    UserError: options that the model does not take.
  """
  return of(
    lambda: models.make(
      family.name, **family.options(sizes), **options, rngs=nnx.Rngs(0)
    )
  )


def of(make: Callable[[], nnx.Module]) -> tuple[Init, Apply]:
  """A model of ours, as `ours`."""
  structure, variables = nn_variables.split(nnx.eval_shape(make))
  backward = variables["grad_stats"]

  def init():
    variables = nn_variables.split(make())[1]
    return variables["params"], variables["stats"]

  def apply(params, stats, inputs):
    held = {"params": params, "stats": stats, "grad_stats": backward}
    model = nn_variables.merge(structure, held)
    logits = model(inputs)
    return logits, nn_variables.split(model)[1]["stats"]

  return init, apply


def flax(model: linen.Module, sample: Array) -> tuple[Init, Apply]:
  """A module of flax.linen, as `ours`; the sample is of its inputs."""

  def init():
    variables = model.init(jax.random.key(0), sample)
    return variables["params"], variables.get("batch_stats", {})

  def apply(params, stats, inputs):
    logits, changed = model.apply(
      {"params": params, "batch_stats": stats}, inputs, mutable=["batch_stats"]
    )
    return logits, changed.get("batch_stats", {})

  return init, apply


def state_of(init: Init, tx: optax.GradientTransformation) -> Any:
  """What `step_of` steps: parameters, statistics, the optimizer's state."""
  params, stats = jax.jit(init)()
  return params, stats, jax.jit(tx.init)(params)


def step_of(apply: Apply, tx: optax.GradientTransformation) -> Any:
  """((params, stats, optimizer's), inputs, targets) -> the new ones, loss."""

  def step(state, inputs, targets):
    params, stats, optimizer_state = state

    def mean_loss(params):
      logits, new = apply(params, stats, inputs)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
      return jnp.mean(losses), new

    (loss, new), gradients = jax.value_and_grad(mean_loss, has_aux=True)(params)
    updates, optimizer_state = tx.update(gradients, optimizer_state, params)
    return (optax.apply_updates(params, updates), new, optimizer_state), loss

  return step


def _tokens(sizes: Sizes, options: Mapping[str, Any]) -> tuple[Array, Array]:
  shape = options["batch_size"], options["length"] + 1
  tokens = jax.random.randint(jax.random.key(1), shape, 0, sizes["vocab_size"])
  return tokens[:, :-1], tokens[:, 1:]


def _images(sizes: Sizes, options: Mapping[str, Any]) -> tuple[Array, Array]:
  count, side = options["batch_size"], sizes["side"]
  keys = jax.random.split(jax.random.key(1))
  images = jax.random.normal(keys[0], (count, side, side, 3))
  labels = jax.random.randint(keys[1], (count,), 0, sizes["num_classes"])
  return images, labels


def _resnet_options(sizes: Sizes) -> Mapping[str, Any]:
  rest = {name: sizes[name] for name in ("num_classes", "depth", "width")}
  return {**rest, "input_shape": (sizes["side"], sizes["side"], 3)}


def _momentum() -> optax.GradientTransformation:
  return optax.sgd(0.1, momentum=0.9)


FAMILIES: Mapping[str, Family] = {
  "llama": Family(
    name="llama",
    options=dict,
    variants={"unrolled": {}, "scanned": {"scan_layers": True}},
    flax={
      "flax.linen, unrolled": lambda sizes: linen_llama.Llama(
        **sizes, scanned=False
      ),
      "flax.linen, scanned": lambda sizes: linen_llama.Llama(
        **sizes, scanned=True
      ),
    },
    torch_module="torch_llama",
    torch_names=("transformers LlamaForCausalLM",),
    torch_packages=("torch", "transformers"),
    batch=_tokens,
    batch_sizes=("batch_size", "length"),
    optimizer=lambda: optim.make("adamw", learning_rate=1e-3, weight_decay=0.1),
    flax_optimizer=lambda: optax.adamw(1e-3, weight_decay=0.1),
    what="{batch_size} x {length} tokens, float32, with AdamW",
  ),
  "cifar_resnet": Family(
    name="cifar_resnet",
    options=_resnet_options,
    variants={"batch_norm": {}},
    flax={
      "flax.linen": lambda sizes: linen_resnet.CifarResNet(
        sizes["num_classes"], sizes["depth"], sizes["width"]
      )
    },
    torch_module="torch_resnet",
    torch_names=("torch, channels_last", "torch, contiguous"),
    torch_packages=("torch",),
    batch=_images,
    batch_sizes=("batch_size",),
    optimizer=_momentum,
    flax_optimizer=_momentum,
    what="{batch_size} images, float32, with SGD and momentum",
  ),
}
MODELS: Mapping[str, Model] = {
  # 58 million parameters: the smallest of the tables of GaLore and its kin
  # (arXiv:2403.03507, table 2).
  "llama_60m": Model(
    "llama",
    {
      "vocab_size": 32000,
      "num_layers": 8,
      "num_heads": 8,
      "model_dim": 512,
      "hidden_dim": 1376,
    },
    batch_size=4,
    depths=(6, 24),
  ),
  "tiny": Model(
    "llama",
    {
      "vocab_size": 64,
      "num_layers": 2,
      "num_heads": 2,
      "model_dim": 16,
      "hidden_dim": 32,
    },
    batch_size=4,
    depths=(1, 2),
  ),
  # arXiv:1512.03385, section 4.2.
  "resnet20": Model(
    "cifar_resnet",
    {"num_classes": 10, "side": 32, "depth": 20, "width": 16},
    batch_size=128,
  ),
  "resnet_tiny": Model(
    "cifar_resnet",
    {"num_classes": 4, "side": 8, "depth": 8, "width": 4},
    batch_size=4,
  ),
}
