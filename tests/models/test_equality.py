"""The transformers equal float64 transcriptions of their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import models
from normjax.nn import activation, feed_forward
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from tests.contracts import model_contract
from tests.models import references

TOKENS = np.random.default_rng(0).integers(0, 23, (2, 6))
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 12, 3))


def _drawn(shapes):
  """Parameters far off any start.

  Branches are as large as the stream, gains and biases differ by feature, and
  attention prefers some tokens.
  """
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    mean = float(path[-1].key == "scale")
    return (mean + 0.3 * rng.normal(size=leaf.shape)).astype(np.float32)

  return jax.tree.map_with_path(draw, shapes)


def _vit(params, image):
  return references.vit(params, image, 4)


def _vit_exact(params, image):
  return references.vit(params, image, 4, references.gelu_exact)


@pytest.mark.parametrize(
  ("name", "options", "inputs", "reference"),
  [
    ("gpt2", {"max_length": 9}, TOKENS, references.gpt2),
    ("llama", {"num_heads": 4, "num_kv_heads": 2}, TOKENS, references.llama),
    ("vit", {"input_shape": (8, 12, 3)}, IMAGES, _vit),
    (
      "vit",
      {"input_shape": (8, 12, 3), "activation": "gelu_exact"},
      IMAGES,
      _vit_exact,
    ),
  ],
  ids=["gpt2", "llama", "vit", "vit_exact"],
)
def test_equals_a_transcription(name, options, inputs, reference):
  options = {**model_contract.SIZES[name], **options}
  structure, variables = nn_variables.split(
    nnx.eval_shape(lambda: models.make(name, **options))
  )
  params = _drawn(variables["params"])
  inputs = jnp.asarray(inputs, jnp.int32 if name != "vit" else jnp.float32)

  @jax.jit
  def logits(params):
    return nn_variables.merge(structure, {**variables, "params": params})(
      inputs
    )

  got = logits(params)
  exact = jax.tree.map(np.float64, params)
  want = np.stack([reference(exact, np.asarray(row)) for row in inputs])
  # Two blocks of five dense layers, the embedding and the head one after
  # another, each a sum of at most 64 rounded products: five times the root of
  # the number of roundings, since these have either sign. The norms between
  # them hand relative errors on as they are.
  bound = 5 * (12 * 64) ** 0.5 * 2**-24 * np.abs(want).max()
  np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_gpt2_has_the_eps_of_the_released_weights():
  model = nnx.eval_shape(lambda: models.make("gpt2"))
  found = [
    node.norm.options["eps"]
    for _, node in nnx.iter_modules(model)
    if isinstance(node, NormLayer)
  ]
  # Two a block and the last.
  assert found == [1e-5] * 5


@pytest.mark.parametrize(
  "make", [activation.resolve, lambda name: feed_forward.ACTIVATIONS[name][0]]
)
def test_two_forms_of_gelu(make):
  """They differ by at most 5e-4, and that is far above rounding."""
  x = jnp.linspace(-4, 4, 101)
  want = references.gelu_exact(np.float64(x))
  np.testing.assert_allclose(make("gelu_exact")(x), want, atol=8 * 2**-23)
  off = np.abs(make("gelu")(x) - want).max()
  assert 1e-4 < off < 5e-4
