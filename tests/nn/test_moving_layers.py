"""A loop of which some layers move, against `jax.grad` of the unrolled one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.nn import moving_layers
from tests import products

D, B, M = 5, 3, 4


def layer(x, inputs):
  """A residual branch with a statistic, and one of the backward pass."""
  variables, gain = inputs
  w = variables["params"]["kernel"]
  hidden = jnp.tanh(x @ w) * variables["grad_stats"].get("scale", 1.0)
  return x + gain * hidden, {"mean": jnp.mean(x)}


def arguments(*, backward_stats):
  rng = np.random.default_rng(0)
  stats = {"scale": jnp.asarray(1.5)} if backward_stats else {}
  params = [{"kernel": jnp.asarray(rng.normal(size=(M, M)))} for _ in range(D)]
  grad_stats = [jax.tree.map(lambda s, n=n: s + n, stats) for n in range(D)]
  x = jnp.asarray(rng.normal(size=(B, M)))
  return x, params, grad_stats


def unrolled(x, params, grad_stats):
  for p, g in zip(params, grad_stats, strict=True):
    x, _ = layer(x, ({"params": p, "grad_stats": g, "stats": {}}, 0.7))
  return jnp.sum(jnp.sin(x))


def looped(active, before, x, params, grad_stats):
  found = moving_layers.Moving(
    {
      f"layers/{i}": jnp.max(
        jnp.where(active == i, jnp.arange(len(active)), -1)
      )
      for i in range(D)
    },
    len(active),
    before,
  )
  layers = [
    ({"params": p, "grad_stats": g, "stats": {}}, jnp.asarray(0.7))
    for p, g in zip(params, grad_stats, strict=True)
  ]
  # Two groups, as of layers of two kinds.
  for group in ([0, 1], [2, 3, 4]):
    x, stats = moving_layers.run_group(
      layer, found, x, group, [layers[i] for i in group]
    )
    assert stats["mean"].shape == (len(group),)
  return jnp.sum(jnp.sin(x))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("backward_stats", [False, True])
@pytest.mark.parametrize("width", [1, 2])
def test_gradients_are_those_of_all(width, backward_stats, before):
  """Of what moves; of statistics of the backward pass all; else zero.

  In float64, of sums of at most 4 terms through 5 layers; the order of the
  sums may differ: some tens of roundings.
  """
  with jax.enable_x64(True):
    given = arguments(backward_stats=backward_stats)
    value, expected = jax.value_and_grad(unrolled, (0, 1, 2))(*given)
    take = jax.jit(
      lambda active: jax.value_and_grad(
        functools.partial(looped, active, before), (0, 1, 2)
      )(*given)
    )
    for active in ([[n] for n in range(D)], [[0, 3], [2, 3], [1, 4]])[
      width - 1
    ]:
      found, (d_x, d_params, d_stats) = take(jnp.asarray(active))
      np.testing.assert_allclose(found, value, rtol=1e-13)
      close = functools.partial(
        jax.tree.map,
        functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14),
      )
      if before:
        close(d_x, expected[0])
      close(d_stats, expected[2])
      for n in range(D):
        wanted = expected[1][n]
        if n not in active:
          wanted = jax.tree.map(jnp.zeros_like, wanted)
        close(d_params[n], wanted)


def test_a_loop_back_has_no_more_products_for_more_layers():
  """Forward 1; back, recomputed: 1 and 1 of a still layer, 1 and 2 of one."""
  x, params, grad_stats = arguments(backward_stats=False)
  counted = jax.make_jaxpr(
    lambda active: jax.grad(
      lambda params: looped(active, False, x, params, grad_stats)
    )(params)
  )(jnp.asarray([1]))
  # Two groups.
  assert len([*products.of(counted)]) == 2 * (1 + 2 + 3)


def test_nothing_is_said_outside():
  found = moving_layers.Moving({}, 1, False)
  assert moving_layers.current() is None
  with moving_layers.moving(found):
    assert moving_layers.current() is found
  assert moving_layers.current() is None
