"""The style as the context of adaptive instance normalization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

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


def _patches(name, height, width):
  """Of a photograph in scikit-learn, 8 by 8 pixels: (1, y, x, 192)."""
  pixels = datasets.load_sample_image(name)[:height, :width] / 255
  rows, columns = height // 8, width // 8
  tiles = pixels.reshape(rows, 8, columns, 8, 3).transpose(0, 2, 1, 3, 4)
  return tiles.reshape(1, rows, columns, 192)


def test_patches_of_a_photograph_take_the_style_of_another():
  """The moments are mixed; in float64 the formula, and the content alone."""
  content = _patches("china.jpg", 96, 64)
  style = _patches("flower.jpg", 64, 128)
  with jax.enable_x64(True):
    y, plain, whole, same = (
      np.asarray(adain.stylize(jnp.asarray(content), jnp.asarray(style), **a))
      for a in (
        {},
        {"style_weight": 1.0, "content_weight": 0.0},
        {"style_weight": 0.0, "content_weight": 1.0},
        {"style_weight": 0.3, "content_weight": 0.9, "eps": 0.5},
      )
    )

  def of(x):
    return x.mean((1, 2)), x.std((1, 2), ddof=1)

  (content_mean, content_std), (style_mean, style_std) = of(content), of(style)
  for got, a_s, a_c in ((y, 0.6, 0.4), (plain, 1.0, 0.0)):
    mean, std = of(got)
    np.testing.assert_allclose(
      mean, a_s * style_mean + a_c * content_mean, rtol=0, atol=1e-12
    )
    # eps makes the content's deviation 1 - eps / (std + eps) of 1.
    shrunk = content_std / (content_std + 1e-4)
    expected = (a_s * style_std + a_c * content_std) * shrunk
    np.testing.assert_allclose(std, expected, rtol=1e-12)
  # |x - mean| eps / (std + eps), of numbers within 1.
  bound = (1e-4 / content_std).max()
  np.testing.assert_allclose(whole, content, rtol=0, atol=bound)
  assert np.abs(y - content).max() > 0.1
  mixed = 0.3 * style_std + 0.9 * content_std
  expected = (content - content_mean) / (content_std + 0.5) * mixed
  expected += 0.3 * style_mean + 0.9 * content_mean
  np.testing.assert_allclose(same, expected, rtol=0, atol=1e-12)


def test_one_style_for_all_and_styles_that_do_not_fit():
  one = adain.stylize(X, OTHER[:1])
  each = adain.stylize(X, jnp.repeat(OTHER[:1], len(X), axis=0))
  np.testing.assert_allclose(one, each, rtol=0, atol=ATOL)
  for style in (OTHER[:2], OTHER[..., :4]):
    with pytest.raises(errors.UserError, match="needed: as many channels"):
      adain.stylize(X, style)
  with pytest.raises(errors.UserError, match=r"for images \(b, y, x, c\)"):
    adain.stylize(X[0], OTHER)


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
