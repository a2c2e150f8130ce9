"""Zeroth order of parts: blocks, last layers, entries, what is trained."""

import itertools
import math

import jax
import numpy as np
import pytest

from normjax import errors
from normjax.nn import shifted
from normjax.train import program
from tests.train.zeroth_order import cases


def test_blocks_are_moved_alone():
  """Each leaf's slope is its part of the whole directional derivative."""
  found = cases.slopes("zeroth_order(derivative='forward', blocks='leaves')")
  scale = max(map(abs, cases.directional().values()))
  for path, slope in found.items():
    # The direction of the others is exactly 0.
    assert abs(slope - cases.directional()[path]) < 1e-4 * scale, path
  layers = cases.slopes("zeroth_order(derivative='forward', blocks='layers')")
  want = (
    cases.directional()["layers/1/kernel"]
    + cases.directional()["layers/1/bias"]
  )
  np.testing.assert_allclose(layers["layers/1/kernel"], want, rtol=1e-3)
  assert len({f"{v:.5f}" for v in layers.values()}) == 3  # And the rest.


def test_hybrid_has_the_gradient_of_the_last_layers():
  """Norm and head by backpropagation, the others' estimated."""
  given = cases.own(cases.Small(), "zeroth_order(first_order_layers=1)")
  found = cases.named(cases.estimate(*given).gradients)
  z = cases.named(cases.z_of(given[1].params))
  for path, g in found.items():
    if path.startswith("layers/"):
      slope = np.vdot(g, z[path]) / np.vdot(z[path], z[path])
      np.testing.assert_allclose(g, slope * z[path], rtol=1e-4)
    else:
      np.testing.assert_allclose(g, cases.exact()[path], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sparsity", [0.1, 0.29, 0.5, 0.9])
def test_exactly_that_share_stays(sparsity):
  """floor(s n), where normal() < s keeps another share: Phi(s) are 0."""
  for size in (7, 100, 1000):
    zeros = shifted.num_zeros(size, sparsity)
    kept = shifted.is_kept(jax.random.key(size), (size,), zeros)
    assert size - int(kept.sum()) == int(round(sparsity * 1000) * size // 1000)
  released = np.random.default_rng(0).normal(size=100_000) < sparsity
  phi = 0.5 * (1 + math.erf(sparsity / math.sqrt(2)))
  np.testing.assert_allclose(released.mean(), phi, atol=0.01)


@pytest.mark.slow
def test_a_sparse_step_moves_the_same_entries_until_they_are_drawn_anew():
  text = "zeroth_order(sparsity=0.75, resample_steps=2)"
  states, _ = cases.steps(*cases.own(cases.Small(), text), 3)
  kernels = [np.asarray(s.params["layers"]["1"]["kernel"]) for s in states]
  moved = [a != b for a, b in itertools.pairwise(kernels)]
  assert [m.sum() for m in moved] == [16] * 3
  np.testing.assert_array_equal(moved[0], moved[1])
  assert (moved[1] != moved[2]).any()


def test_what_is_frozen_is_not_moved():
  """What others there are does not change a leaf's z."""
  paths = frozenset({"layers/1/kernel"})
  given = cases.own(cases.Small(), "zeroth_order", trained=paths)
  found = cases.named(cases.estimate(*given).gradients)
  assert set(found) == paths
  z, g = (
    cases.named(cases.z_of(given[1].params))["layers/1/kernel"],
    found.popitem()[1],
  )
  slope = np.vdot(g, z) / np.vdot(z, z)
  np.testing.assert_allclose(g, slope * z, rtol=1e-4)


def test_nothing_left_to_estimate():
  text = "zeroth_order(first_order_layers=3)"
  with pytest.raises(errors.UserError, match="of 3 layers nothing is left"):
    program.recipe_and_initialize(cases.mlp(text))


def test_layers_of_a_model_without_them():
  recipe = cases.own(cases.Point(3), "zeroth_order(blocks='layers')")[0]
  with pytest.raises(errors.UserError, match="no layers called layers/0"):
    recipe.gradient.check(recipe)


def test_branches_of_a_model_without_them():
  recipe = cases.own(cases.Small(), "zeroth_order(blocks='branches')")[0]
  with pytest.raises(
    errors.UserError, match="no layers/<i>/attention.*'?whole"
  ):
    recipe.gradient.check(recipe)
