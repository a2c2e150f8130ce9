"""Corruptions against CIFAR-10-C's rules, and what they promise."""

import itertools

import numpy as np
import pytest

from normjax import errors, rng
from normjax.data import corruptions
from tests.data import references_corruptions as references

SEED = 5
# Amplitudes of these do not grow with the severity alone: elastic's affine
# part shrinks while its displacements grow, glass loses reach to blur, and
# saturate first takes colour away and then adds it.
NOT_MONOTONE = ("elastic", "frosted_glass_blur", "saturate")


def _images(batch=3, side=16, channels=3, seed=0):
  """Smooth blobs with some noise, as uint8, where corruptions show."""
  generator = np.random.default_rng(seed)
  rows, columns = np.mgrid[:side, :side] / side
  waves = generator.uniform(1, 3, (batch, 1, 1, channels, 2))
  phase = generator.uniform(0, 6, (batch, 1, 1, channels))
  image = np.sin(
    6 * (waves[..., 0] * rows[..., None] + waves[..., 1] * columns[..., None])
    + phase
  )
  image = 0.5 + 0.4 * image + 0.05 * generator.normal(size=image.shape)
  return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _expected(images, kind, severity):
  constants = references.CONSTANTS[kind][severity - 1]
  if not isinstance(constants, tuple):
    constants = (constants,)
  stream = rng.host_seed(SEED, f"corruption/{kind}")
  rule = getattr(references, kind)
  return np.stack(
    [
      rule(image, np.random.default_rng((stream, index)), *constants)
      for index, image in enumerate(images)
    ]
  )


@pytest.mark.parametrize(
  ("kind", "channels"),
  [
    (kind, channels)
    for kind in corruptions.KINDS
    for channels in (1, 3)
    # Grey images have no saturation; see the test of grey images.
    if kind != "impulse_noise" and (kind, channels) != ("saturate", 1)
  ],
)
def test_equals_the_official_rule_image_by_image(kind, channels):
  images = _images(2, 16, channels) / 255
  for severity in (1, 2, 3, 4, 5):
    actual = corruptions.corrupt(images, (kind, severity), SEED)
    expected = _expected(images, kind, severity)
    # Sums of at most 600 products of values up to 1, each to 1.1e-16; fog
    # and elastic also divide by nothing smaller than 1e-2.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11)


def test_bytes_are_truncated_as_in_the_official_code():
  images = _images()
  for kind in ("gaussian_noise", "contrast", "zoom_blur"):
    exact = _expected(images / 255.0, kind, 3) * 255
    actual = corruptions.corrupt(images, f"{kind}_3", SEED)
    assert actual.dtype == np.uint8
    # An ulp decides only within 1e-9 of a whole number.
    clear = abs(exact - np.rint(exact)) > 1e-9
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(actual[clear], np.uint8(exact)[clear])
  # What goes through 8 bits by itself stays exact.
  untouched = corruptions.corrupt(images, "frosted_glass_blur_1", SEED)
  assert np.isin(untouched, images).all()


def _flat(value, batch=8, side=32):
  return np.full((batch, side, side, 3), value)


@pytest.mark.parametrize(
  ("kind", "deviation"),
  [
    ("gaussian_noise", lambda x, c: c),
    ("speckle_noise", lambda x, c: x * c),
    ("shot_noise", lambda x, c: (x / c) ** 0.5),
  ],
)
def test_noise_has_the_mean_and_variance_of_its_rule(kind, deviation):
  x = 0.4
  images = _flat(x)
  for severity, c in enumerate(references.CONSTANTS[kind], 1):
    noisy = corruptions.corrupt(images, (kind, severity), SEED)
    expected = deviation(x, c)
    # Five standard errors; clipping starts at four deviations, where it takes
    # less than 1e-4 of the variance.
    assert abs(noisy.mean() - x) < 5 * expected / images.size**0.5
    spread = (2 / images.size) ** 0.5
    # A Poisson count's excess kurtosis, 1 / rate, widens its error.
    if kind == "shot_noise":
      spread *= (1 + 1 / (2 * x * c)) ** 0.5
    assert abs(noisy.var() / expected**2 - 1) < 5 * spread + 1e-4


def test_impulses_are_salt_and_pepper_in_equal_parts():
  images = _flat(0.5)
  for severity, amount in enumerate(references.CONSTANTS["impulse_noise"], 1):
    noisy = corruptions.corrupt(images, ("impulse_noise", severity), SEED)
    assert set(np.unique(noisy)) == {0.0, 0.5, 1.0}
    for value in (0.0, 1.0):
      p = amount / 2
      error = (p * (1 - p) / images.size) ** 0.5
      assert abs((noisy == value).mean() - p) < 5 * error


@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_depends_on_the_image_and_its_index_not_on_the_batch(kind):
  images = _images(4, 12, 3)
  before = images.copy()
  whole = corruptions.corrupt(images, (kind, 2), SEED)
  np.testing.assert_array_equal(images, before)
  np.testing.assert_array_equal(
    corruptions.corrupt(images, f"{kind}_2", SEED), whole
  )
  for index in ([3], [2, 0]):
    part = corruptions.corrupt(images[index], (kind, 2), SEED, index)
    np.testing.assert_array_equal(part, whole[index])
  other = corruptions.corrupt(images, (kind, 2), SEED + 1)
  draws = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("frosted_glass_blur", "motion_blur", "snow", "fog", "elastic"),
  )
  assert (other != whole).any() == (kind in draws)


def test_a_stronger_noise_is_the_same_noise():
  images = _flat(0.5, 1)
  weak, strong = (
    corruptions.corrupt(images, ("gaussian_noise", s)) - 0.5 for s in (1, 3)
  )
  # 0.5 + 0.08 z is rounded once, to 1.1e-16.
  np.testing.assert_allclose(strong, 2 * weak, rtol=0, atol=1e-15)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
  "kind", [kind for kind in corruptions.KINDS if kind not in NOT_MONOTONE]
)
def test_distance_grows_with_the_severity(kind, channels):
  images = _images(6, 32, channels)
  # Severity 4 of motion_blur only adds taps below exp(-13^2 / 8) to 3.
  severities = (1, 2, 3, 5) if kind == "motion_blur" else (1, 2, 3, 4, 5)
  distances = [
    np.linalg.norm(
      corruptions.corrupt(images, (kind, s)).astype(float) - images
    )
    for s in severities
  ]
  assert distances[0] > 0
  assert all(b > a for a, b in itertools.pairwise(distances))
  assert distances[-1] > 1.05 * distances[0]


def test_grey_images():
  grey = _images(2, 16, 1)
  colour = np.repeat(grey, 3, axis=-1)
  # The same rule on three equal channels; noise is drawn per channel.
  for kind in ("defocus_blur", "zoom_blur", "brightness", "contrast", "fog"):
    np.testing.assert_array_equal(
      corruptions.corrupt(grey, (kind, 4))[..., 0],
      corruptions.corrupt(colour, (kind, 4))[..., 1],
    )
  np.testing.assert_array_equal(corruptions.corrupt(grey, "saturate_5"), grey)


def test_every_size_and_dtype():
  for kind in corruptions.KINDS:
    for side in ((8, 8), (28, 20)):
      images = np.resize(_images(2, 28, 1), (2, *side, 1))
      assert corruptions.corrupt(images, (kind, 5)).shape == images.shape
    floats = _images(1, 8, 3).astype(np.float32) / 255
    result = corruptions.corrupt(floats, (kind, 5))
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1
  assert corruptions.corrupt(floats[:0], "fog_1").shape == (0, 8, 8, 3)


def test_names_expand_in_order_each_once():
  expand = corruptions.expand
  assert expand(["fog_2", "fog"]) == (
    "fog_2",
    "fog_1",
    "fog_3",
    "fog_4",
    "fog_5",
  )
  assert len(expand(["all"])) == 17 * 5
  assert len(expand(["common", "snow_1"])) == 14 * 5
  assert "speckle_noise_1" not in expand(["common"])
  assert expand([]) == ()


def test_names_are_those_of_tfds():
  import tensorflow_datasets as tfds

  configs = tfds.builder_cls("cifar10_corrupted").builder_configs
  left_out = {f"{k}_{s}" for k in ("frost", "spatter") for s in range(1, 6)}
  assert set(corruptions.expand(["all"])) == set(configs) - left_out


def test_bad_input_says_what_is_allowed():
  images = _images(1, 8, 1)
  for name in ("fog_0", "fog_6", "fog_-1", ("fog", 2.5)):
    with pytest.raises(errors.UserError, match=r"outside 1 to 5.*fog_5"):
      corruptions.corrupt(images, name)
  with pytest.raises(errors.UserError, match="severity is missing"):
    corruptions.corrupt(images, "fog")
  with pytest.raises(errors.UnknownNameError, match="'gaussian_noise'"):
    corruptions.corrupt(images, "gausian_noise_1")
  with pytest.raises(errors.UserError, match="left out: it blends in photog"):
    corruptions.corrupt(images, "frost_1")
  with pytest.raises(errors.UserError, match="left out"):
    corruptions.expand(["spatter"])
  for wrong in (images[0], images.repeat(2, -1), images[:, :3]):
    with pytest.raises(errors.UserError, match="1 or 3 channels"):
      corruptions.corrupt(wrong, "fog_1")
  with pytest.raises(errors.UserError, match="int64; allowed: uint8"):
    corruptions.corrupt(images.astype(np.int64), "fog_1")
  for wrong in (images * 1.0, images / 255 - 1, images * np.nan):
    with pytest.raises(errors.UserError, match="before standardizing"):
      corruptions.corrupt(wrong, "fog_1")
  with pytest.raises(errors.UserError, match="2 indices for 1 images"):
    corruptions.corrupt(images, "fog_1", 0, [1, 2])


def test_means_weigh_kinds_alike():
  found = corruptions.means({"fog_1": 0.8, "fog_2": 0.4, "snow_1": 0.2}, 0.8)
  assert found["mean_corrupted_accuracy"] == pytest.approx((0.6 + 0.2) / 2)
  assert found["relative_corrupted_accuracy"] == pytest.approx(0.5)
  nothing = corruptions.means({"fog_1": 0.0}, 0.0)
  assert np.isnan(nothing["relative_corrupted_accuracy"])
