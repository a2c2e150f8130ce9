"""Programs hold no large constants: what is computed is not written out."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from normjax import models
from normjax.nn import mixing
from normjax.nn import variables as nn_variables
from tests.contracts import model_contract

# A table of a thousand float32 numbers is 4 kB; one of a thousand positions,
# as many tokens squared or all pixels is not below this.
MOST_BYTES = 64 * 1024
LENGTH, SIDE = 2_048, 64


def _lowered(name, length=LENGTH, **options):
  """The text of the gradient's program; nothing is made or compiled."""
  sizes = {**model_contract.SIZES.get(name, {}), **options}
  if name in ("llama", "gpt2", "vit"):
    sizes = {**sizes, "num_layers": options.get("num_layers", 1)}
  reads = models.get(name).reads
  if "tokens" in reads:
    inputs = jax.ShapeDtypeStruct((1, length), jnp.int32)
    sizes |= {"max_length": length} if name == "gpt2" else {}
  elif "features" in reads:
    sizes["input_shape"] = (length,)
    inputs = jax.ShapeDtypeStruct((2, length), jnp.float32)
  else:
    sizes["input_shape"] = (SIDE, SIDE, 3)
    inputs = jax.ShapeDtypeStruct((2, SIDE, SIDE, 3), jnp.float32)
  structure, variables = nn_variables.split(
    nnx.eval_shape(lambda: models.make(name, **sizes))
  )

  def loss(params, variables, inputs, key):
    model = nn_variables.merge(structure, {**variables, "params": params})
    return jnp.sum(model(inputs, key=key))

  key = jax.eval_shape(lambda: jax.random.key(0))
  step = jax.jit(jax.grad(loss))
  return step.lower(variables["params"], variables, inputs, key).as_text()


def _constants(text):
  """Bytes of each constant that is written out."""
  return [len(digits) // 2 for digits in re.findall(r'dense<"0x(\w*)"', text)]


def _cases():
  for name in models.names():
    yield name, {}
  for name in mixing.names():
    if mixing.make(name).traits.causal:
      yield "llama", {"mixing": name}
    else:
      yield "vit", {"mixing": name, "pooling": "mean", "patch_size": 2}
  yield "llama", {"scan_layers": True, "remat": True}


@pytest.mark.parametrize(
  ("name", "options"),
  list(_cases()),
  ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_no_large_constant(name, options):
  assert max(_constants(_lowered(name, **options)), default=0) <= MOST_BYTES


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_program_does_not_grow_with_the_length(name, scan_layers):
  """But for the digits of its shapes."""
  short, long = (
    len(_lowered(name, length, scan_layers=scan_layers))
    for length in (1_024, 8_192)
  )
  assert long < 1.05 * short


def test_constants_are_found():
  table = jnp.sin(jnp.arange(2 * MOST_BYTES, dtype=jnp.float32))
  text = jax.jit(lambda x: x + table).lower(table).as_text()
  assert _constants(text) == [8 * MOST_BYTES]


def test_angles_are_computed_once_for_all_layers():
  def cosines(num_layers):
    text = _lowered("llama", num_layers=num_layers)
    return text.count("stablehlo.cosine")

  assert cosines(2) == cosines(6) == 1
