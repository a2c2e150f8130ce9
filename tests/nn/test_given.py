"""What a batch gives the norms of a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models, norms
from normjax.nn import given
from normjax.nn import variables as nn_variables
from normjax.nn.linen import LinenNorm
from normjax.nn.norm_layer import NormLayer
from normjax.norms import adain
from tests import support

X = support.normal(4, 2, 2, 8)
IDS = jnp.asarray([0, 1, 1, 0])


def _film():
  layer = NormLayer({"name": "film", "num_domains": 2}, (8,))
  layer.gain_kernel[...] = jnp.stack([jnp.zeros(8), jnp.ones(8)])
  return layer


def test_norms_of_domains_read_what_the_batch_says():
  layer = _film()
  expected = X * jnp.where(IDS == 1, 2, 1)[:, None, None, None]
  with given.of_batch({"inputs": X, "domain": IDS}):
    np.testing.assert_array_equal(layer(X), expected)
    # The call's own comes first, and so does what its name is given.
    np.testing.assert_array_equal(layer(X, context=0 * IDS), X)
    with given.context({"film": 0 * IDS}):
      np.testing.assert_array_equal(layer(X), X)
    np.testing.assert_array_equal(layer(X), expected)
  with (
    given.of_batch({"inputs": X}),
    pytest.raises(errors.UserError, match="none is given"),
  ):
    layer(X)


def test_so_do_those_of_linen():
  layer = LinenNorm({"name": "film", "num_domains": 2})
  with given.of_batch({"domain": IDS}):
    made = layer.init(jax.random.key(0), X)
    kernel = jnp.stack([jnp.zeros(8), jnp.ones(8)])
    made["params"]["gain_kernel"] = kernel
    y = layer.apply(made, X)
  expected = X * jnp.where(IDS == 1, 2, 1)[:, None, None, None]
  np.testing.assert_array_equal(y, expected)


def test_other_norms_do_not_see_domains():
  layer = NormLayer("adain", (8,))
  style = adain.style_of(X + 1)
  with given.of_batch({"domain": IDS}):
    plain = layer(X)
    with given.context({"adain": style}):
      styled = layer(X)
  np.testing.assert_array_equal(plain, layer(X))
  np.testing.assert_array_equal(styled, layer(X, context=style))


@pytest.mark.parametrize(
  ("name", "options", "inputs"),
  [
    ("mlp", {"input_shape": (8,)}, (4, 8)),
    ("cifar_resnet", {"depth": 8, "width": 4}, (4, 8, 8, 3)),
    ("gpt2", {"num_layers": 2, "model_dim": 16, "num_heads": 2}, (4, 6)),
  ],
)
def test_it_reaches_the_norms_of_any_model(name, options, inputs):
  """Through blocks and whatever transforms them; in shapes alone."""
  spec = norms.make("dsbn", num_domains=2)
  if name != "mlp":
    options = options | (
      {"input_shape": inputs[1:]} if len(inputs) == 4 else {"vocab_size": 11}
    )
  model = nnx.eval_shape(
    lambda: models.make(name, **options, norm=spec, rngs=nnx.Rngs(0))
  )
  structure, variables = nn_variables.split(model)

  def loss(params, others, x, ids):
    merged = nn_variables.merge(structure, {**others, "params": params})
    with given.of_batch({"domain": ids}):
      return jnp.sum(merged(x, train=True))

  is_tokens = "vocab_size" in options
  x = jax.ShapeDtypeStruct(inputs, jnp.int32 if is_tokens else jnp.float32)
  params = variables["params"]
  gradient = jax.eval_shape(jax.grad(loss), params, variables, x, IDS)
  assert jax.tree.structure(gradient) == jax.tree.structure(params)
  with pytest.raises(errors.UserError, match="none is given"):
    jax.eval_shape(
      lambda v, x: nn_variables.merge(structure, v)(x), variables, x
    )
