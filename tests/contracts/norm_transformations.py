"""What compilers may do to every norm: jit, vmap, scan, remat, devices.

A part of the contract of norms (`norm_contract`) that compiles much and says
little of options: `tests/norms/test_contract.py` runs it on one variant of
every norm, and on all in `make test-all`.
"""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.contracts.norm_values import (
  CHANNELS,
  SHAPES,
  assert_close,
  gradient,
  inputs,
  is_counter,
  jitted,
  to,
  tolerance,
)


class TransformationContract:
  """The contract; a subclass parametrizes `case` (`cases.by_name`)."""

  def test_transformations(self, case):
    """jit, vmap, scan and remat change nothing but roundings."""
    norm = case.norm
    variables, x = inputs(norm, SHAPES[4])
    variables, x = to(jnp.float32, (variables, x))
    xs = jnp.stack([x, 2 * x + 1, -x])
    weight = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    bound = 4 * tolerance(x)

    eager = norm.apply(variables, x)
    assert_close(jitted(norm)(variables, x), eager, bound)

    each = [jitted(norm)(variables, one) for one in xs]
    together = jax.jit(jax.vmap(lambda one: norm.apply(variables, one)))(xs)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    assert_close(together, stacked, bound)

    def body(stats, one):
      y, stats = norm.apply({**variables, "stats": stats}, one)
      return stats, y

    stats, ys = jax.jit(lambda s, xs: jax.lax.scan(body, s, xs))(
      variables["stats"], xs
    )
    expected_stats = variables["stats"]
    for one, y in zip(xs, ys, strict=True):
      expected_y, expected_stats = jitted(norm)(
        {**variables, "stats": expected_stats}, one
      )
      assert_close(y, expected_y, bound)
    assert_close(stats, expected_stats, bound)

    plain = jax.jit(gradient(norm))
    expected = [plain(variables, one, weight) for one in xs]
    remat = jax.jit(gradient(norm, jax.checkpoint))(variables, x, weight)
    assert_close(remat, expected[0], bound)
    if variables["grad_stats"]:
      each = jax.jit(jax.vmap(gradient(norm), in_axes=(None, 0, None)))
      stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected)
      assert_close(each(variables, xs, weight), stacked, bound)

  @pytest.mark.slow
  @jax.enable_x64(True)
  def test_second_derivatives(self, case):
    """Products with the Hessian, both ways round, by differences of gradients.

    What a gradient that is written out takes for a constant would be missing.
    """
    norm = case.norm
    variables, x = jax.tree.map(jnp.asarray, inputs(norm, SHAPES[4]))
    if variables["grad_stats"] or norm.options.get("estimated"):
      return  # Their gradient is no derivative, as they say.
    # At the first step batch renorm has no correction, which lets none through.
    variables["stats"] = {
      name: leaf * 0 if is_counter(leaf) else leaf
      for name, leaf in variables["stats"].items()
    }
    towards = jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)

    def loss(x):
      # Its second derivative in y is not 0.
      return jnp.vdot(jnp.sin(norm.apply(variables, x)[0]), 1 + towards)

    @jax.jit
    def products(x):
      slope = jax.grad(loss)
      reverse = jax.grad(lambda x: jnp.vdot(slope(x), towards))(x)
      return reverse, jax.jvp(slope, (x,), (towards,))[1]

    step = 1e-5
    slope = jax.jit(jax.grad(loss))
    ahead, behind = (slope(x + sign * step * towards) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    # Cut off at step^2 = 1e-10 of the fourth derivative, rounded at 1e-16 /
    # step = 1e-11 of the first: a thousand times either.
    bound = 1e-7 * jnp.max(jnp.abs(expected))
    for product in products(x):
      assert jnp.max(jnp.abs(product - expected)) <= bound

  def test_eight_devices_equal_one(self, case):
    """A batch sharded over devices has the statistics of the whole."""
    norm = case.norm
    shape = (8, 3, 5, CHANNELS)
    variables, x = to(jnp.float32, inputs(norm, shape))
    weight = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)

    step = jax.jit(gradient(norm))
    mesh = jax.make_mesh((8,), ("b",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("b")))
    whole = NamedSharding(mesh, PartitionSpec())
    one = step(variables, x, weight)
    eight = step(jax.device_put(variables, whole), sharded, weight)
    assert len(eight[1][0].sharding.device_set) == 8
    assert_close(eight, one, 4 * tolerance(x))

  def test_gradients_trace_on_explicit_meshes(self, case):
    """Where a batch is sharded, every sum and cotangent has a sharding."""
    norm = case.norm
    shape = (8, 3, 5, CHANNELS)
    variables, x = to(jnp.float32, inputs(norm, shape))
    mesh = jax.make_mesh((8,), ("b",), axis_types=(AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec("b"))
    sharded = jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding)
    with jax.set_mesh(mesh):
      gradients = jax.eval_shape(gradient(norm), variables, sharded, sharded)
    like_x = [g for g in jax.tree.leaves(gradients) if g.shape == shape]
    assert like_x
    assert all(g.sharding.spec[0] == "b" for g in like_x)
