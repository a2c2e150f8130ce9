"""The programs that have a budget, by name: norms, updates, models, kernels.

What a maker gives is traced in the block of `aot.abstract`.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

import kernels_pallas
from kernels_pallas.bench import passes
from normjax import models, norms, optim
from normjax.bench import compiled_subjects as subjects
from normjax.nn import variables as nn_variables
from tests.contracts import model_contract

Make = Callable[[], list[passes.Pass]]
NUM_LAYERS = 2
# In place of the contract's, whose arrays are smaller than what a loop costs.
_WIDER = {"model_dim": 256, "num_heads": 4}
_TRANSFORMERS = ("llama", "gpt2", "vit")
_EXAMPLES, _TOKENS = 32, 128


def of_norms() -> Mapping[str, Make]:
  """Each norm at the shapes of `normjax bench compiled`."""
  return {
    f"{name} {'x'.join(map(str, shape))}": functools.partial(
      subjects.norm_passes, name, shape
    )
    for shape in subjects.SHAPES
    for name in norms.names()
    if subjects.fits(name, shape)
  }


def of_updates() -> Mapping[str, Make]:
  """Each optimizer's update of a LLaMA of two layers."""

  def make(name):
    return [subjects.update(name, subjects.llama_leaves(NUM_LAYERS))[0]]

  return {name: functools.partial(make, name) for name in optim.names()}


def _gradient(name: str, **options) -> list[passes.Pass]:
  wider = _WIDER if name in _TRANSFORMERS else {}
  sizes = {**model_contract.SIZES.get(name, {}), **wider}
  has_norm = name not in model_contract.WITHOUT_NORM
  norm = {} if has_norm else {"norm": "identity"}

  def make():
    return models.make(name, **norm, **sizes, **options, rngs=nnx.Rngs(0))

  structure, variables = nn_variables.split(nnx.eval_shape(make))
  sample = model_contract.inputs(name)
  reads_tokens = "tokens" in models.get(name).reads
  one = (_TOKENS,) if reads_tokens else sample.shape[1:]
  inputs = jax.ShapeDtypeStruct((_EXAMPLES, *one), sample.dtype)

  def gradient(variables, inputs):
    def loss(params):
      model = nn_variables.merge(structure, {**variables, "params": params})
      logits = model(inputs, train=True, key=jax.random.key(0))
      return jnp.mean(jnp.square(logits.astype(jnp.float32)))

    return jax.value_and_grad(loss)(variables["params"])

  return [passes.Pass("gradient", gradient, (variables, inputs))]


def of_models() -> Mapping[str, Make]:
  """The gradient of each model, two layers deep."""
  makers = {name: functools.partial(_gradient, name) for name in models.names()}
  scanned = functools.partial(_gradient, "llama", scan_layers=True)
  return {**makers, "llama, scanned": scanned}


def of_kernels() -> Mapping[str, Make]:
  """Each Pallas kernel of each op, on what its benchmark runs."""
  return {
    f"{name} {impl} {spec.name}": functools.partial(
      passes.of_op, name, spec, impl
    )
    for name in kernels_pallas.OPS
    for impl in passes.kernels(name)
    for spec in passes.specs(name)
  }
