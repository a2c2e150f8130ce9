"""PowerNorm's steps, its backward statistic, padding and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from tests.norms import references_power, trajectory

X = np.random.default_rng(0).normal(size=(3, 5, 8)) * np.exp2(-np.arange(8))


def _with_phi(variables, phi, **grad_stats):
  stats = {**variables["stats"], "running_phi": jnp.full((8,), phi)}
  return {**variables, "stats": stats, "grad_stats": grad_stats}


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_steps_across_the_warm_up(masked, official):
  """Forward and backward of 1020 steps equal the official code's."""
  norm = norms.make(
    "power_norm",
    num_groups=2,
    warmup_steps=30,
    forward_momentum=0.95,
    backward_momentum=0.8,
    eps=1e-3,
    padding_in_gradient=official,
  )
  rng = np.random.default_rng(1)
  xs = rng.normal(size=(1020, 2, 4, 6)) * rng.uniform(0.1, 4, 6)
  dys = rng.normal(size=xs.shape) + np.sign(xs)
  mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool) if masked else None
  variables = trajectory.start(norm, rng.normal(size=6), rng.normal(size=6))
  arguments = (variables, xs, dys, mask)
  seen, evaluated = trajectory.compiled(norm, *arguments)
  expected = trajectory.in_numpy(
    norm,
    references_power.power_norm,
    references_power.power_norm_backward,
    *arguments,
  )
  trajectory.assert_close(norm, (seen, evaluated), expected)
  np.testing.assert_array_equal(seen["stats"]["steps"], np.arange(1, 1021))


@pytest.mark.parametrize(("power", "factor"), [(16.0, -0.6), (25.0, -1.5)])
def test_the_backward_statistic_grows_where_the_power_does(power, factor):
  """Without a gradient it is multiplied by 1 - (1 - momentum) mean(z^2).

  So it explodes as soon as a batch has more than 20 times the running power.
  """
  norm = norms.make("power_norm", warmup_steps=0, eps=1e-12)
  rows = jnp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], (60, 8)))
  ema = jnp.ones(8)
  # h is 1 or -1 everywhere.
  variables = _with_phi(norm.init((8,)), 1 / power)

  @jax.jit
  def new_value(ema):
    def loss(ema):
      held = {**variables, "grad_stats": {"ema_gz": ema}}
      return 0.0 * jnp.sum(norm.apply(held, rows)[0])

    return jax.grad(loss)(ema)

  for _ in range(60):
    ema = new_value(ema)
  # 60 products of a rounded factor.
  np.testing.assert_allclose(ema, factor**60, rtol=60 * 64 * 2**-24)
  assert (np.abs(ema[0]) > 1e10) == (power > 20)


def test_warm_up_mixes_positions_and_later_only_the_gradient_does():
  """What a causal model leaks: the future, through q."""
  changed = X.copy()
  changed[:, -1, 0] += 5

  def first_token(x, warmup_steps):
    norm = norms.make("power_norm", warmup_steps=warmup_steps)

    def apply(x):
      y, _ = norm.apply(norm.init((8,)), x)
      return jnp.sum(y[0, 0] ** 3), y[0, 0]

    gradient, y = jax.grad(apply, has_aux=True)(jnp.asarray(x, jnp.float32))
    return np.asarray(y), np.asarray(gradient[0, 0])

  for warmup_steps, leaks in ((1, True), (0, False)):
    y, gradient = first_token(X, warmup_steps)
    other_y, other_gradient = first_token(changed, warmup_steps)
    assert (np.abs(y - other_y).max() > 1e-2) == leaks
    assert np.abs(gradient - other_gradient).max() > 1e-2


def test_the_official_backward_mean_runs_over_padding():
  """It is left out of q only."""
  norm = norms.make("power_norm", padding_in_gradient=True)
  variables = norm.init((8,))
  mask = jnp.arange(5)[None] < jnp.array([[5], [2], [3]])

  def new_value(x, cotangent):
    def loss(grad_stats):
      y, stats = norm.apply(
        {**variables, "grad_stats": grad_stats}, x, mask=mask
      )
      return jnp.sum(y * cotangent), stats

    return jax.grad(loss, has_aux=True)(variables["grad_stats"])

  x = jnp.asarray(X, jnp.float32)
  padded = jnp.where(mask[..., None], x, x + 1)
  real = jnp.where(mask[..., None], jnp.cos(x), 0)
  first, stats = new_value(x, real)
  second, other_stats = new_value(padded, real)
  jax.tree.map(np.testing.assert_array_equal, stats, other_stats)
  # Without a gradient, and with ema_gz at 0, padding only counts.
  jax.tree.map(np.testing.assert_array_equal, first, second)
  third, _ = new_value(x, jnp.cos(x))
  assert np.abs(third["ema_gz"] - first["ema_gz"]).max() > 1e-3


def test_a_mask_that_leaves_nothing_keeps_phi():
  norm = norms.make("power_norm", warmup_steps=0)
  variables = norm.init((8,))
  y, stats = norm.apply(variables, jnp.asarray(X), mask=jnp.zeros((3, 5)))
  assert np.isfinite(y).all()
  np.testing.assert_array_equal(
    stats["running_phi"], variables["stats"]["running_phi"]
  )


def test_evaluation_is_differentiated_as_it_is_written():
  norm = norms.make("power_norm", num_groups=4, eps=1e-3)
  variables = _with_phi(norm.init((8,)), 0.3, ema_gz=jnp.ones(8))
  x = jnp.asarray(X, jnp.float32)

  def formula(x):
    groups = x.reshape(3, 5, 4, 2)
    root = jnp.sqrt((groups**2).mean(-1, keepdims=True) + 1e-3)
    return jnp.sum(jnp.sin((groups / root).reshape(x.shape) / 0.301**0.5))

  def loss(x, variables):
    return jnp.sum(jnp.sin(norm.apply(variables, x, train=False)[0]))

  # Quotients and roots of 2 terms; the gradient's sums have 4.
  bound = 64 * 2**-24
  expected = jax.grad(formula)(x)
  bound *= float(jnp.abs(expected).max())
  actual = jax.grad(loss)(x, variables)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
  # Forward-mode derivatives, where nothing is to be kept for the backward.
  forward = jax.jacfwd(loss)(x, {**variables, "grad_stats": {}})
  np.testing.assert_allclose(forward, expected, rtol=0, atol=bound)


def test_options_and_inputs_that_do_not_fit():
  with pytest.raises(errors.UserError, match="num_groups=3 must divide the 8"):
    norms.make("power_norm", num_groups=3).init((8,))
  for option, value in (
    ("num_groups", 0),
    ("num_groups", 2.0),
    ("warmup_steps", -1),
    ("warmup_steps", True),
    ("forward_momentum", 1.5),
    ("backward_momentum", float("nan")),
    ("eps", 0),
  ):
    with pytest.raises(errors.UserError, match=option) as error:
      norms.make("power_norm", **{option: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("name", ["power_norm", "unified_norm"])
def test_one_token_or_missing_statistics(name):
  norm = norms.make(name)
  variables = norm.init((8,))
  token = jnp.ones((1, 1, 8))
  with pytest.raises(errors.UserError, match="larger batch, or train=False"):
    norm.apply(variables, token)
  y, _ = norm.apply(variables, token, train=False)
  assert y.shape == token.shape
  lacking = {**variables, "grad_stats": {}}
  with pytest.raises(errors.UserError, match="backward statistics 'ema_gz'"):
    norm.apply(lacking, jnp.asarray(X))
  norm.apply(lacking, jnp.asarray(X), train=False)
  for train in (True, False):
    with pytest.raises(errors.UserError, match="its running statistics"):
      norm.apply({**variables, "stats": {}}, jnp.asarray(X), train=train)


@pytest.mark.parametrize("name", ["power_norm", "unified_norm"])
def test_layers_in_a_scan_have_their_own_backward_statistics(name):
  """What a loop over two layers gives."""
  norm = norms.make(name)
  made = norm.init((8,))
  made["params"]["bias"] += 0.5
  layers = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), made)
  x = jnp.asarray(X, jnp.float32)

  def scanned(grad_stats, x):
    layer = {**layers, "grad_stats": grad_stats}
    x, _ = jax.lax.scan(
      lambda x, held: (norm.apply(held, x)[0], None), x, layer
    )
    return jnp.sum(jnp.sin(x))

  def looped(grad_stats, x):
    for i in range(2):
      layer = {**layers, "grad_stats": grad_stats}
      x, _ = norm.apply(jax.tree.map(lambda leaf, i=i: leaf[i], layer), x)
    return jnp.sum(jnp.sin(x))

  actual, expected = (
    jax.jit(jax.grad(loss, argnums=(0, 1)))(layers["grad_stats"], x)
    for loss in (scanned, looped)
  )
  # The same sums of 15 tokens, fused in another way, through two layers.
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(
      a, e, rtol=0, atol=64 * 2**-24 * max(1, np.abs(e).max())
    ),
    actual,
    expected,
  )
  assert np.abs(expected[0]["ema_gz"]).min() > 0
