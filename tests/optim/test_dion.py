"""Dion: rank, error feedback, zero and low-rank momenta."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, configure, errors, optim
from normjax.optim import draws
from tests.support import normal


@pytest.mark.parametrize(
  ("options", "columns"),
  [
    ({}, 6),
    ({"rank": 4}, 4),
    ({"rank_percent": 50}, 3),
    ({"rank_percent": 55}, 4),
    ({"rank_percent": 12.5}, 1),
    ({"rank_percent": 50.5}, 4),
    ({"rank_percent": 100}, 6),
    ({"rank": 2, "rank_percent": 90}, 6),
  ],
)
@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_rank(options, columns, shape):
  state = optim.scale_by_dion(**options).init(jnp.zeros(shape))
  assert state.basis.shape == (1, shape[0], columns)
  assert state.mu.shape == shape


def test_bad_percent():
  with pytest.raises(errors.UserError, match="rank_percent=0"):
    optim.dion(0.1, rank_percent=0)
  for bad, error in ((100.5, errors.UserError), (jnp.float32(50), TypeError)):
    with pytest.raises(error, match="rank_percent=.*> 0 and <= 100"):
      optim.dion(0.1, rank_percent=bad)


def test_a_share_shapes_the_program():
  """A float, but no scalar of a sweep: another share is another program."""
  config = configure.override(
    configure.load("configs/default.py"), {"optimizer.name": "dion"}
  )
  assert "optimizer.momentum" in build.scalars(config)
  keys = set()
  for share in (12.5, 25.0):
    with config.unlocked(), config.ignore_type():
      config.optimizer.rank_percent = share
    assert "optimizer.rank_percent" not in build.scalars(config)
    keys.add(build.program_key(config))
  assert len(keys) == 2


def test_first_basis_is_drawn_from_seed_and_path():
  params = {"a": jnp.zeros((4, 6)), "b": jnp.zeros((4, 6))}
  bases = [
    optim.scale_by_dion(seed=seed).init(params).basis for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(bases[0]["a"], bases[1]["a"])
  np.testing.assert_array_equal(
    bases[2]["b"], draws.normal("b", (1, 4, 4), seed=1)
  )
  assert np.any(bases[0]["a"] != bases[0]["b"])


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_constant_gradient_becomes_the_polar_factor(shape):
  """At full rank the power iteration converges to the singular vectors."""
  g = normal(*shape)
  tx = optim.scale_by_dion()
  update = jax.jit(tx.update)
  state = tx.init(g)
  for _ in range(200):
    step, state = update(g, state)
  left, _, right = np.linalg.svd(g, full_matrices=False)
  scale = np.sqrt(shape[1] / shape[0])
  # Converges with the ratios of the singular values, 0.9^200 at worst.
  np.testing.assert_allclose(step, scale * left @ right, atol=1e-3)


def test_what_the_step_takes_leaves_the_momentum():
  g = normal(6, 10)
  tx = optim.scale_by_dion(momentum=0.7, rank=2)
  step, state = tx.update(g, tx.init(g))
  # The step's rows span P.
  _, _, right = np.linalg.svd(step)
  p = right[:2].T
  taken = np.asarray(g) @ p @ p.T
  np.testing.assert_allclose(state.mu, g - 0.3 * taken, atol=1e-5)
  assert np.linalg.matrix_rank(np.asarray(step), tol=1e-4) == 2


def test_low_rank_reaches_every_direction_in_time():
  """Error feedback: rank 1 descends a parabola of rank 6."""
  target = normal(6, 10)
  tx = optim.dion(0.02, rank=1, weight_decay=0.0)

  def step(carry, _):
    w, state = carry
    updates, state = tx.update({"kernel": w - target}, state, {"kernel": w})
    return (w + updates["kernel"], state), None

  w = jnp.zeros_like(target)
  carry = w, tx.init({"kernel": w})
  (w, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=3000))(carry)
  assert np.linalg.norm(w - target) < 0.05 * np.linalg.norm(target)


def test_zero_momentum_keeps_the_basis():
  g = normal(6, 10)
  tx = optim.scale_by_dion()
  start = tx.init(g)
  step, state = tx.update(jnp.zeros_like(g), start)
  assert not np.any(step)
  np.testing.assert_array_equal(state.basis, start.basis)


@pytest.mark.parametrize("shape", [(40, 64), (64, 40)])
@pytest.mark.parametrize("scale", [1e-4, 1e25])
def test_a_gradient_of_low_rank_moves_its_rank(shape, scale):
  g = normal(shape[0], 3) @ normal(3, shape[1], seed=1) * jnp.float32(scale)
  tx = optim.scale_by_dion(eps=0.0)
  update = jax.jit(tx.update)
  state = tx.init(g)
  for _ in range(20):
    step, state = update(g, state)
  singular = np.linalg.svd(step, compute_uv=False)
  np.testing.assert_array_less(singular[3:], 1e-4 * singular[0])


def test_one_qr_for_all_layers_of_a_shape():
  def count(num_layers):
    params = {str(n): {"kernel": normal(4, 6)} for n in range(num_layers)}
    tx = optim.dion(0.1)
    text = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    return text.count("geqrf[") + text.count(" qr[")

  assert count(5) == count(1) == 1
