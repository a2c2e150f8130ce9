"""Products of rows with a matrix: the form, and that it is all that differs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from normjax.nn import products
from normjax.nn.feed_forward import FeedForward
from tests import products as products_of
from tests import support

_NUMBERS = (((2,), (0,)), ((), ()))


def _ranks(function, *arguments):
  """Of the operands of all products in a function's gradient."""
  traced = jax.make_jaxpr(jax.grad(lambda *a: jnp.sum(function(*a) ** 2)))
  return {
    operand.aval.ndim
    for equation in traced(*arguments).eqns
    if equation.primitive is lax.dot_general_p
    for operand in equation.invars
  }


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_on_cpus_the_rows_are_one_axis(platform):
  layer = FeedForward(8, 16, rngs=nnx.Rngs(0))
  structure, params = nnx.split(layer)

  def apply(params, x):
    return nnx.merge(structure, params)(x)

  with products_of.compiled_for(platform):
    ranks = _ranks(apply, params, support.normal(2, 3, 8))
  assert ranks == ({2} if platform == "cpu" else {2, 3})


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_positions_may_lie_on_several_devices(kind):
  """As one axis with the examples, they would all be gathered, or refused."""
  mesh = jax.make_mesh((8,), ("positions",), axis_types=(kind,))
  x = jax.device_put(
    jnp.ones((2, 8, 4)), NamedSharding(mesh, P(None, "positions"))
  )
  kernel = jax.device_put(jnp.ones((4, 3)), NamedSharding(mesh, P()))
  apply = jax.jit(lambda x, kernel: products.dot_general(x, kernel, _NUMBERS))
  compiled = apply.lower(x, kernel).compile()
  assert "all-gather" not in compiled.as_text()
  assert compiled.output_shardings.spec[1] == "positions"


def test_both_forms_give_the_same_bits():
  x, kernel = support.normal(4, 5, 24), support.normal(24, 40)

  def differentiated(function):
    return jax.jit(
      jax.value_and_grad(
        lambda x, kernel: jnp.sum(function(x, kernel, _NUMBERS) ** 2), (0, 1)
      )
    )(x, kernel)

  jax.tree.map(
    np.testing.assert_array_equal,
    differentiated(products.dot_general),
    differentiated(lax.dot_general),
  )
