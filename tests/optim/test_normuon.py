"""NorMuon: units of one size, Muon's norm, one second moment a unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from tests.support import normal


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_first_step_makes_units_equal(shape):
  """V is then (1 - b2) times the square of the unit's own size."""
  g = normal(*shape) * jnp.geomspace(0.1, 10, shape[1])
  tx = optim.scale_by_normuon()
  step, _ = tx.update(g, tx.init(g))
  units = np.linalg.norm(step, axis=0)
  # Sums of 10 terms and a few divisions.
  np.testing.assert_allclose(units, units[0], rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_spectral_keeps_the_norm_of_muon(shape):
  ours, muon = optim.scale_by_normuon(), optim.scale_by_muon()
  g = normal(*shape)
  state, muon_state = ours.init(g), muon.init(g)
  for seed in range(3):
    g = normal(*shape, seed=seed)
    step, state = ours.update(g, state)
    expected, muon_state = muon.update(g, muon_state)
    np.testing.assert_allclose(
      np.linalg.norm(step), np.linalg.norm(expected), rtol=1e-5
    )


def test_rms_is_a_fifth():
  tx = optim.scale_by_normuon(scaling="rms")
  g = normal(6, 10)
  state = tx.init(g)
  for seed in range(3):
    step, state = tx.update(normal(6, 10, seed=seed), state)
    rms = np.sqrt(np.mean(np.square(step)))
    np.testing.assert_allclose(rms, 0.2, rtol=1e-5)


@pytest.mark.parametrize(
  ("path", "shape", "units"),
  [
    ("kernel", (6, 10), (1, 10)),
    ("layers/kernel", (3, 6, 10), (3, 10)),
    ("conv/kernel", (3, 2, 4, 5), (1, 5)),
    ("query/kernel", (6, 2, 4), (1, 8)),
  ],
)
def test_one_second_moment_a_unit(path, shape, units):
  params = {path: jnp.zeros(shape)}
  for key in reversed(path.split("/")):
    params = {key: params.get(path, params)}
  state = optim.scale_by_normuon().init(params)
  assert [leaf.shape for leaf in jax.tree.leaves(state.nu)] == [units]


def test_a_unit_without_gradient_does_not_move():
  g = normal(6, 10).at[:, 3].set(0)
  tx = optim.scale_by_normuon()
  step, state = tx.update(g, tx.init(g))
  assert not np.any(step[:, 3])
  assert float(state.nu[0, 3]) == 0
  assert np.isfinite(step).all()


def test_one_iteration_for_all_layers():
  def products(num_layers):
    params = {
      str(n): {"up": {"kernel": normal(4, 6)}, "down": {"kernel": normal(6, 4)}}
      for n in range(num_layers)
    }
    tx = optim.normuon(0.1)
    text = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    return text.count("dot_general[")

  assert products(6) == products(1) == 3
