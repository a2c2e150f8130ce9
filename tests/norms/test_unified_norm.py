"""Unified Normalization's steps, windows, filter and folding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from tests import support
from tests.norms import references_power, trajectory

SPIKES = (20, 1010)


def _run(masked=False, num_steps=1020, **options):
  """(compiled, NumPy), each the steps and an evaluation."""
  norm = norms.make("unified_norm", **options)
  rng = np.random.default_rng(2)
  xs = rng.normal(size=(num_steps, 3, 4, 6)) * np.linspace(0.7, 1.5, 6)
  for spike in SPIKES:
    xs[spike - 1 : spike] *= 30
  # The running power lags behind this growth: r leaves 1 and is cut at 5.
  xs[1011:] *= 7
  dys = rng.normal(size=xs.shape) + np.sign(xs)
  mask = np.array([[1] * 4, [1, 1, 0, 0], [1] * 4], bool) if masked else None
  variables = trajectory.start(norm, rng.normal(size=6), rng.normal(size=6))
  arguments = (variables, xs, dys, mask)
  actual = trajectory.compiled(norm, *arguments)
  expected = trajectory.in_numpy(
    norm,
    references_power.unified_norm,
    references_power.unified_norm_backward,
    *arguments,
  )
  trajectory.assert_close(norm, actual, expected)
  return actual[0]


@pytest.mark.parametrize("masked", [False, True])
def test_steps_across_the_warm_up(masked):
  """Forward and backward of 1020 steps equal the official code's."""
  seen = _run(masked, window=(4, 3), warmup_steps=12, momentum=0.8, eps=1e-3)
  np.testing.assert_array_equal(seen["stats"]["steps"], np.arange(1, 1021))
  assert not seen["stats"]["skips"].any()


def test_a_spike_is_skipped():
  seen = _run(window=4, warmup_steps=12, outlier_filtration=True)
  skips = np.diff(seen["stats"]["skips"], prepend=0)
  for spike in SPIKES:
    assert skips[spike - 1] == 1
  assert skips[: SPIKES[0] - 1].sum() == 0
  # The slot has the running statistic of before, which takes the spike in.
  stats, at = seen["stats"], SPIKES[0] - 1
  np.testing.assert_allclose(
    stats["buffer_x2"][at][SPIKES[0] % 4], stats["running_var"][at - 1]
  )
  assert (stats["running_var"][at] > 20 * stats["running_var"][at - 1]).all()


def test_an_empty_window_looks_like_an_outlier():
  """The warm-up should be as long as the window: zeros have no variance."""
  early = _run(num_steps=20, window=8, warmup_steps=0, outlier_filtration=True)
  assert early["stats"]["skips"][0] == 1


def test_window_1_is_the_batch_rms_with_its_own_gradient():
  norm = norms.make("unified_norm", window=1, warmup_steps=2, eps=1e-3)
  variables = norm.init((6,))
  rng = np.random.default_rng(0)

  def formula(params, x):
    q = jnp.mean(x**2, axis=(0, 1))
    return params["scale"] * x / jnp.sqrt(q + 1e-3) + params["bias"]

  @jax.jit
  def both(variables, x, dy):
    y, pull, stats = jax.vjp(
      lambda params, grad_stats, x: norm.apply(
        {**variables, "params": params, "grad_stats": grad_stats}, x
      ),
      variables["params"],
      variables["grad_stats"],
      x,
      has_aux=True,
    )
    params, grad_stats, dx = pull(dy)
    expected, pull = jax.vjp(formula, variables["params"], x)
    new = {**variables, "stats": stats, "grad_stats": grad_stats}
    return new, (y, (params, dx)), (expected, pull(dy))

  with jax.enable_x64(True):
    for _ in range(5):
      x = jnp.asarray(rng.normal(size=(4, 5, 6)) * 3)
      dy = jnp.asarray(rng.normal(size=x.shape)) + x
      variables, actual, expected = both(variables, x, dy)
      # Sums of 20 terms of both, up to 100.
      jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
          a, e, rtol=0, atol=100 * 36 * 2.0**-53
        ),
        actual,
        expected,
      )


def test_the_gradient_correction_is_bounded():
  """A running power of 1e4 times the batch's, after step 1000: r = 1/5."""
  norm = norms.make("unified_norm", window=2, warmup_steps=0)
  variables = norm.init((6,))
  x = support.normal(4, 5, 6)

  @jax.jit
  def dscale(steps):
    stats = variables["stats"] | {
      "running_var": jnp.full((6,), 1e4),
      "buffer_x2": jnp.ones((2, 6)),
      "steps": jnp.asarray(steps, jnp.int32),
    }

    def loss(params):
      held = {**variables, "params": params, "stats": stats}
      return jnp.sum(norm.apply(held, x)[0] ** 3)

    return jax.grad(loss)(variables["params"])["scale"]

  np.testing.assert_allclose(dscale(1000), dscale(998) / 5, rtol=1e-5)


def test_evaluation_folds_into_the_next_linear_layer():
  norm = norms.make("unified_norm")
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    variables = norm.init((6,), jnp.float64)
    w, b, running = rng.normal(size=6), rng.normal(size=6), rng.uniform(1, 2, 6)
    variables["params"] = {"scale": jnp.asarray(w), "bias": jnp.asarray(b)}
    variables["stats"]["running_var"] = jnp.asarray(running)
    x, kernel = rng.normal(size=(4, 5, 6)), rng.normal(size=(6, 3))
    y, _ = norm.apply(variables, jnp.asarray(x), train=False)
    folded = kernel * (w / np.sqrt(running + 1e-5))[:, None]
    np.testing.assert_allclose(
      y @ kernel, x @ folded + b @ kernel, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
  ("option", "value"),
  [
    ("window", 0),
    ("window", (4, 4, 4)),
    ("window", (4, 0.5)),
    ("window", "4"),
    ("warmup_steps", -1),
    ("outlier_filtration", "yes"),
    ("momentum", 2),
    ("eps", -1e-5),
  ],
)
def test_options_out_of_range(option, value):
  with pytest.raises(errors.UserError, match=option):
    norms.make("unified_norm", **{option: value})
