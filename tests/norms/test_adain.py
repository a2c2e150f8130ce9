"""The style as the context of adaptive instance normalization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from normjax.norms import adain
from tests import support
from tests.norms import references_vision

X = support.normal(3, 4, 4, 8) * 2 + 1
OTHER = support.normal(3, 5, 6, 8, seed=1) * 3 - 2
AWARE = {
  "style_weight": 0.6,
  "content_weight": 0.4,
  "eps": 1e-4,
  "eps_placement": "outside",
  "variance": "unbiased",
}
# Sums of 30 numbers below 12, over a deviation above 1.
ATOL = 30 * 12 * 2**-24 * 4


@pytest.mark.parametrize("options", [{}, AWARE], ids=["style", "aware"])
def test_equals_the_formula(options):
  norm = norms.make("adain", **options)
  style = adain.style_of(OTHER)
  y, _ = norm.apply({}, X, context=style)
  both = np.stack([np.float64(value) for value in style])
  expected, _ = references_vision.adain(
    {}, {}, np.float64(X), **norm.options, style=both
  )
  np.testing.assert_allclose(y, expected, rtol=0, atol=ATOL)


def test_the_output_has_the_moments_of_the_style():
  norm = norms.make("adain")
  style = adain.style_of(OTHER, variance="biased")
  y, _ = norm.apply({}, X, context=style)
  got = adain.style_of(y, variance="biased")
  np.testing.assert_allclose(got.mean, style.mean, rtol=0, atol=ATOL)
  # eps takes 1e-5 / 2 of a variance of 1; the least here is above that.
  np.testing.assert_allclose(got.std, style.std, rtol=1e-5, atol=ATOL)
  one, _ = norm.apply({}, X, context=jax.tree.map(lambda a: a[0], style))
  np.testing.assert_allclose(one[0], y[0], rtol=0, atol=ATOL)


def test_all_content_is_the_image():
  norm = norms.make(
    "adain", **{**AWARE, "style_weight": 0, "content_weight": 1}
  )
  y, _ = norm.apply({}, X, context=adain.style_of(OTHER))
  # eps = 1e-4 over a deviation above 1/2, of deviations below 8.
  np.testing.assert_allclose(y, X, rtol=0, atol=2e-4 * 8)


def test_contexts_that_do_not_fit_are_errors():
  norm = norms.make("adain")
  for context, message in (
    (jnp.ones(8), "is a pair of the style's mean"),
    ((jnp.ones((2, 8)), jnp.ones((2, 8))), r"\(3, 8\) or \(8,\) for x"),
    ((jnp.ones(8), jnp.ones((3, 8))), r"got \(8,\) and \(3, 8\)"),
  ):
    with pytest.raises(errors.UserError, match=message):
      norm.apply({}, X, context=context)
  with pytest.raises(errors.UserError, match="two pixels or more"):
    adain.style_of(X[:, :1, :1])
