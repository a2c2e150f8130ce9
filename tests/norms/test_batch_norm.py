"""Running statistics, conventions and errors of batch normalization."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import errors, norms
from tests import support


@pytest.mark.parametrize("running_variance", ["unbiased", "biased"])
def test_running_statistics_over_several_steps(running_variance):
  """PyTorch: r <- (1 - m) r + m s with m = 0.1, unbiased; Flax: biased."""
  norm = norms.make("batch_norm", running_variance=running_variance)
  variables = norm.init((5,))
  rng = np.random.default_rng(0)
  mean, var = np.zeros(5), np.ones(5)
  for _ in range(6):
    x = rng.normal(3, 2, size=(7, 4, 5)).astype(np.float32)
    _, stats = norm.apply(variables, jnp.asarray(x))
    variables = {**variables, "stats": stats}
    rows = x.reshape(-1, 5).astype(np.float64)
    mean = mean - 0.1 * (mean - rows.mean(0))
    var = var - 0.1 * (var - rows.var(0, ddof=running_variance == "unbiased"))
  # Sums of 28 terms up to 100, over 6 steps.
  close = functools.partial(
    np.testing.assert_allclose, rtol=0, atol=6 * 28 * 2**-24 * 10
  )
  close(variables["stats"]["mean"], mean)
  close(variables["stats"]["var"], var)
  x = rng.normal(3, 2, size=(1, 4, 5)).astype(np.float32)
  y, _ = norm.apply(variables, jnp.asarray(x), train=False)
  close(y, (x - mean) / np.sqrt(var + 1e-5))


def test_biased_equals_flax():
  norm = norms.make("batch_norm", momentum=0.8, running_variance="biased")
  variables = norm.init((5,))
  flax = linen.BatchNorm(
    use_running_average=False,
    momentum=0.8,
    epsilon=1e-5,
    use_fast_variance=False,
  )
  held = {"params": variables["params"], "batch_stats": variables["stats"]}
  for seed in range(3):
    x = support.normal(6, 3, 3, 5, seed=seed) + 2
    y, stats = norm.apply(variables, x)
    variables = {**variables, "stats": stats}
    expected, updated = flax.apply(held, x, mutable=["batch_stats"])
    held |= updated
    np.testing.assert_allclose(y, expected, rtol=0, atol=54 * 2**-24 * 4)
  for name, value in held["batch_stats"].items():
    np.testing.assert_allclose(
      variables["stats"][name], value, rtol=0, atol=54 * 2**-24 * 4
    )


@pytest.mark.parametrize("shape", [(1, 5), (5,), (1, 1, 1, 5), (0, 5)])
def test_one_value_per_channel_names_the_shape(shape):
  norm = norms.make("batch_norm")
  variables = norm.init((5,))
  x = jnp.ones(shape)
  with pytest.raises(errors.UserError, match="more than one value") as error:
    norm.apply(variables, x)
  assert str(shape) in str(error.value)
  y, _ = norm.apply(variables, x, train=False)
  assert y.shape == shape


@pytest.mark.parametrize("train", [True, False])
def test_missing_statistics(train):
  norm = norms.make("batch_norm")
  params = {"params": norm.init((5,))["params"]}
  with pytest.raises(errors.UserError, match="running statistics 'mean'"):
    norm.apply(params, jnp.ones((4, 5)), train=train)


@pytest.mark.parametrize("real", [0, 1])
def test_a_mask_that_leaves_too_little_keeps_the_statistics(real):
  norm = norms.make("batch_norm")
  variables = norm.init((5,))
  mask = jnp.arange(4) < real
  x = support.normal(4, 5)
  y, stats = jax.jit(norm.apply)(variables, x, mask=mask)
  assert np.isfinite(y).all()
  jax.tree.map(np.testing.assert_array_equal, stats, variables["stats"])


def test_padding_gets_no_say_in_the_gradient():
  """Real tokens' outputs do not depend on what stands in the padding."""
  norm = norms.make("batch_norm")
  variables = norm.init((5,))
  mask = jnp.arange(6) < 4
  x = support.normal(6, 5)
  gradient = jax.grad(
    lambda x: jnp.sum(norm.apply(variables, x, mask=mask)[0][:4] ** 3)
  )(x)
  np.testing.assert_array_equal(gradient[4:], np.zeros((2, 5)))
  assert np.abs(gradient[:4]).max() > 0


def test_ghost_batches_are_batches_of_their_own():
  """And one step of the running statistics, with the mean over them."""
  ghost = norms.make("batch_norm", virtual_batch_size=2)
  whole = norms.make("batch_norm")
  variables = whole.init((5,))
  x = support.normal(6, 3, 3, 5) * 2 + 1
  mask = jnp.array([True, True, True, False, False, False])
  for given in (None, mask):
    y, stats = ghost.apply(variables, x, mask=given)
    each = [
      whole.apply(
        variables,
        x[i : i + 2],
        mask=None if given is None else given[i : i + 2],
      )
      for i in (0, 2, 4)
    ]
    # Sums of 18 terms below 10.
    close = functools.partial(
      np.testing.assert_allclose, rtol=0, atol=18 * 10 * 2**-24 * 4
    )
    close(y, jnp.concatenate([y for y, _ in each]))
    # The last ghost batch has nothing real: it does not count.
    counted = [stats for _, stats in each[: 3 if given is None else 2]]
    for name, value in stats.items():
      close(value, np.mean([s[name] for s in counted], axis=0))
  y, stats = ghost.apply(variables, x[:5], train=False)
  assert stats is variables["stats"]
  with pytest.raises(errors.UserError, match="virtual_batch_size=2 .* of 5"):
    ghost.apply(variables, x[:5])
  with pytest.raises(errors.UserError, match="more than one value"):
    norms.make("batch_norm", virtual_batch_size=1).apply(variables, x[:, 0, 0])


@pytest.mark.parametrize(
  "name", ["batch_norm", "batch_renorm", "switchable_norm", "bcn", "evonorm_b0"]
)
def test_statistics_of_channels_on_an_explicit_axis(name):
  """The batch's are sharded, those that stay where it is lost are not."""
  norm = norms.make(name)
  mesh = jax.make_mesh((8,), ("c",), axis_types=(AxisType.Explicit,))
  channels = NamedSharding(mesh, PartitionSpec(None, None, None, "c"))
  x = jax.ShapeDtypeStruct((4, 2, 2, 64), jnp.float32, sharding=channels)
  with jax.set_mesh(mesh):
    y, stats = jax.eval_shape(norm.apply, norm.init((64,)), x)
  assert y.sharding.spec == channels.spec
  assert all(s.sharding.spec[-1] == "c" for s in stats.values() if s.ndim)
