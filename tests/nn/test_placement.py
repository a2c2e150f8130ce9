import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.nn import placement, residual_branch


def _branch(x):
  return 3.0 * x


def _norm(x):
  return x / 2.0


def _residual(name, index=1, num_layers=2, x=4.0):
  layer = placement.resolve(name).layer(index, num_layers)
  slots = {slot: _norm for slot in layer.feed_forward.slots}
  return residual_branch.residual(
    jnp.asarray(x),
    _branch,
    slots,
    structure=layer.feed_forward,
    gains=layer.gains,
    branch_gain=0.05 if layer.feed_forward.interpolate else 1.0,
  )


@pytest.mark.parametrize(
  ("name", "want"),
  [
    ("pre", 4 + 3 * 2),
    ("post", (4 + 3 * 4) / 2),
    ("mix", 4 + 3 * 2),
    ("layer_norm_scaling", 4 + 3 * 2),
    ("sandwich", 4 + 3 * 2 / 2),
    ("peri", 4 + 3 * 2 / 2),
    ("reordered", 4 + 3 * 4 / 2),
    ("deep_norm", (4 * 4**0.25 + 3 * 4) / 2),
    ("sub_ln", 4 + 3 * 2),
    ("keel", (4 * 4 + 3 * 2) / 2),
    ("hybrid", 2 + 3 * 2),
    ("hybrid_star", 4 + 3 * 2),
    ("parallel", 4 + 3 * 2),
    ("parallel_two_norms", 4 + 3 * 2),
    ("nap", 4 + 3 * 2 / 2),
    ("normalized_stream", (4 + 0.05 * (6 - 4)) / 2),
  ],
)
def test_each_placement_is_its_formula(name, want):
  """With N(x) = x / 2, F(x) = 3 x, x = 4, in block 1 of 2."""
  assert float(_residual(name)) == pytest.approx(want, rel=1e-6)


def test_every_placement_has_its_formula_tested():
  cases = test_each_placement_is_its_formula.pytestmark[0].args[1]
  assert tuple(name for name, _ in cases) == placement.TABLE.names()


def test_mixed_is_post_first_and_pre_after():
  """Three of twelve, as in Mix-LN's configs of 71M and 130M."""
  rule = placement.resolve("mix").layer
  kinds = [rule(index, 12).attention.slots for index in range(1, 13)]
  assert kinds == [{"stream"}] * 3 + [{"input"}] * 9
  half = placement.resolve("mix(post_percent=50)").layer
  assert half(6, 12).attention.slots == {"stream"}


def test_layer_norm_scaling_is_one_over_the_root_of_the_block():
  rule = placement.resolve("layer_norm_scaling").layer
  gains = [rule(index, 4).gains.input for index in range(1, 5)]
  np.testing.assert_allclose(gains, [1, 2**-0.5, 3**-0.5, 0.5])
  # Python floats: nothing that an initialization could erase.
  assert all(type(gain) is float for gain in gains)
  assert _residual("layer_norm_scaling", index=4) == 4 + 3 * 2 * 0.5


@pytest.mark.parametrize(
  ("layers", "alpha", "beta"),
  [
    (6, 1.861, 0.380),
    (12, 2.213, 0.319),
    (24, 2.632, 0.269),
    (100, 3.761, 0.188),
  ],
)
def test_deep_norm_constants(layers, alpha, beta):
  """arXiv:2203.00555, figure 2, of a decoder or an encoder alone."""
  rule = placement.resolve("deep_norm")
  gains = rule.layer(1, layers).gains
  np.testing.assert_allclose(gains.stream, alpha, atol=5e-4)
  np.testing.assert_allclose(rule.gain(layers), beta, atol=5e-4)


def test_sub_ln_gain():
  gain = placement.resolve("sub_ln").gain
  np.testing.assert_allclose([gain(12), gain(24)], [1.783, 1.968], atol=5e-4)


def test_names_resolve_and_unknown_ones_are_named():
  for name in placement.TABLE.names():
    assert placement.resolve(name).name == name
    assert placement.resolve(placement.resolve(name)).name == name
  with pytest.raises(errors.UnknownNameError, match="Did you mean 'post'"):
    placement.resolve("poste")
  with pytest.raises(errors.UserError, match="'pre' has no option 'percent'"):
    placement.resolve("pre(percent=3)")
  with pytest.raises(errors.UserError, match="not a name, nor name"):
    placement.resolve("mix(percent)")
