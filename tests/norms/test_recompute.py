"""What norms keep between their passes, which derivatives they have."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import blocks, dispatch
from normjax import errors, norms
from normjax.norms import pointwise, recompute
from tests import support
from tests.contracts import norm_values

ROWS, IMAGES = (64, 128), (4, 8, 8, 32)
# Beside x and the parameters, float32 numbers per row or per image's channel.
ROW_NUMBERS = {
  "layer_norm": 2,
  "rms_norm": 1,
  "crms_norm": 0,
  "scale_norm": 0,
  "l2_norm": 0,
  "dyt": 0,
  "derf": 0,
  "bhyt": 1,
  "seednorm": 2,
  "pre_affine": 0,
  "gated_norm": 16,
  "frn": 1,
}
# Written with `recompute`: forward-mode is there as well.
RECOMPUTED = sorted(set(ROW_NUMBERS) - {"layer_norm", "rms_norm", "gated_norm"})


def shape_of(norm):
  return IMAGES if norm.traits.mixes_positions else ROWS


def kept_bytes(norm, x):
  variables = norm.init(x.shape[-1:])

  def backward(params, x):
    held = {**variables, "params": params}
    return jax.vjp(lambda *a: norm.apply({**held, "params": a[0]}, a[1])[0],
                   params, x)[1]  # fmt: skip

  leaves = jax.tree.leaves(jax.eval_shape(backward, variables["params"], x))
  return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


@pytest.mark.parametrize("name", ROW_NUMBERS)
def test_x_and_a_few_numbers_are_kept(name):
  norm = norms.make(name)
  x = jax.ShapeDtypeStruct(shape_of(norm), jnp.bfloat16)
  params = norm.init(x.shape[-1:])["params"]
  of_params = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  places = x.shape[0] * (x.shape[-1] if len(x.shape) == 4 else 1)
  numbers = 4 * ROW_NUMBERS[name] * places
  assert kept_bytes(norm, x) <= 2 * math.prod(x.shape) + of_params + numbers


@pytest.mark.parametrize("name", RECOMPUTED)
def test_forward_mode_is_the_reverse_mode_of_it(name):
  """<w, J v> = <J' w, v>, of a bfloat16 x too, by the parameters as well."""
  norm = norms.make(name)
  held, x = norm_values.inputs(norm, (3, 2, 2, 8))
  held, x = norm_values.to(jnp.float32, (held, x))
  params = held["params"]
  towards = jax.tree.map(
    lambda a: jnp.sin(1 + jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape),
    (params, x),
  )

  @jax.jit
  def products(params, x):
    def apply(params, x):
      return norm.apply({**held, "params": params}, x)[0]

    y, ahead = jax.jvp(apply, (params, x), towards)
    weight = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    back = jax.vjp(apply, params, x)[1](weight)
    dots = jax.tree.map(jnp.vdot, back, towards)
    return jnp.vdot(weight, ahead), sum(jax.tree.leaves(dots))

  one, other = products(params, x)
  # Sums of some 100 products, each off by some 30 roundings.
  np.testing.assert_allclose(one, other, rtol=0, atol=100 * 30 * 2**-24)


@pytest.mark.parametrize("name", ["seednorm", "dyt", "bhyt", "frn"])
def test_blocks_change_nothing_but_roundings(name, monkeypatch):
  """On a large x of a CPU's program; here of a small one."""
  norm = norms.make(name)
  shape = shape_of(norm)
  variables, x = norm_values.inputs(norm, shape)
  variables, x = norm_values.to(jnp.float32, (variables, x))
  weight = support.normal(*shape, seed=1)
  step = norm_values.gradient(norm)
  whole = jax.jit(step)(variables, x, weight)
  monkeypatch.setattr(blocks, "pay", lambda x: True)
  monkeypatch.setattr(blocks, "_ROWS", 16)
  for values in (math.prod(shape[1:]), 2 * math.prod(shape[1:])):
    monkeypatch.setattr(blocks, "_IMAGE_VALUES", values)
    jaxpr = str(jax.make_jaxpr(lambda *a: step(*a))(variables, x, weight))
    assert " scan[" in jaxpr
    if shape == ROWS and values > math.prod(shape[1:]):
      continue  # Rows know nothing of it.
    by_block = jax.jit(lambda *a: step(*a))(variables, x, weight)
    norm_values.assert_close(by_block, whole, 4 * norm_values.tolerance(x))


def test_blocks_of_one_image_are_not_copied(monkeypatch):
  """What XLA made of an axis of size 1 was a copy of x, and one of dy."""
  monkeypatch.setattr(blocks, "pay", lambda x: True)
  monkeypatch.setattr(blocks, "_IMAGE_VALUES", 16 * 16 * 64)
  norm = norms.make("group_norm")
  x = jax.ShapeDtypeStruct((8, 16, 16, 64), jnp.float32)
  variables = norm.init((64,))
  compiled = jax.jit(lambda x: norm.apply(variables, x)[0]).lower(x).compile()
  assert "f32[8,1,16,16,64]" not in compiled.as_text()


@pytest.mark.parametrize(
  ("name", "shape"), [("crms_norm", (2**10, 64)), ("frn", (8, 16, 16, 64))]
)
def test_blocks_need_no_memory_of_the_size_of_x(name, shape, monkeypatch):
  """Neither the zeros that loops begin with, nor what a block reads, twice."""
  monkeypatch.setattr(blocks, "pay", lambda x: True)
  monkeypatch.setattr(blocks, "_IMAGE_VALUES", 16 * 16 * 64)
  monkeypatch.setattr(blocks, "_ROWS", 64)
  norm = norms.make(name)
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  variables = norm.init(shape[-1:])

  def both(x, dy):
    y, vjp = jax.vjp(lambda x: norm.apply(variables, x)[0], x)
    return y, vjp(dy)

  compiled = jax.jit(both).lower(x, x).compile()
  # A block, of which there are 8 or 16, and what is computed of it.
  temporary_bytes = compiled.memory_analysis().temp_size_in_bytes
  assert temporary_bytes < 0.75 * 4 * np.prod(shape)


def test_tanh_has_the_derivative_of_tanh():
  u = jnp.concatenate([jnp.linspace(-9, 9, 181), jnp.asarray([1e-30, 88.0])])
  slope = jax.jit(jax.vmap(jax.grad(pointwise.tanh)))(u)
  exact = 1 / np.cosh(np.float64(u)) ** 2
  # exp is off by 2 |u| u for the rounding of its argument, and a few u more.
  np.testing.assert_allclose(
    slope, exact, rtol=(2 * 9 + 8) * 2**-24, atol=1e-37
  )


def test_again_is_x_with_its_derivatives():
  x = support.normal(4, 8)

  def cubed(x):
    return jnp.sum(x * x * recompute.again(x, x))

  np.testing.assert_allclose(jax.grad(cubed)(x), 3 * x * x, rtol=4 * 2**-24)
  second = jax.jvp(jax.grad(cubed), (x,), (jnp.ones_like(x),))[1]
  np.testing.assert_allclose(second, 6 * x, rtol=4 * 2**-24)


def test_what_a_norm_is_made_of_is_no_kernel_of_its_own():
  """Else a report tells rms_norm's row that this one computed otherwise."""
  norm = norms.make("pre_affine")
  with dispatch.recording() as chosen:
    norm.apply(norm.init((8,)), jnp.ones((2, 8)), train=True)
  assert chosen == {}


def test_a_context_that_does_not_fit_is_named_where_x_is_cut_too():
  norm = norms.make("gated_norm", inner="bhyt")
  variables = jax.eval_shape(lambda: norm.init((1024,), key=jax.random.key(0)))
  x = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
  context = jax.ShapeDtypeStruct((512, 1), jnp.float32)
  with pytest.raises(errors.UserError, match="bhyt: the context is"):
    jax.eval_shape(
      lambda v, x, c: norm.apply(v, x, train=True, context=c),
      variables,
      x,
      context,
    )
