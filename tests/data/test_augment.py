import numpy as np
import pytest

from normjax.data import augment

IMAGE = np.arange(1, 1 + 2 * 6 * 5 * 3).reshape(2, 6, 5, 3).astype(np.float32)


@pytest.mark.parametrize("mirror", [True, False])
def test_every_result_is_a_crop_of_the_padded_image(mirror):
  padded = np.pad(IMAGE, ((0, 0), (2, 2), (2, 2), (0, 0)))
  crops = {}
  for top in range(5):
    for left in range(5):
      crop = padded[0, top : top + 6, left : left + 5]
      crops[crop.tobytes()] = (top, left, False)
      if mirror:
        crops[crop[:, ::-1].tobytes()] = (top, left, True)
  seen = set()
  for seed in range(600):
    out = augment.crop_and_flip(
      IMAGE, np.random.default_rng(seed), padding=2, mirror=mirror
    )
    assert out.shape == IMAGE.shape
    seen.add(crops[out[0].tobytes()])
  # One of 50 is missed in 600 draws with probability 50 (49/50)^600 < 3e-4,
  # and the seeds are fixed.
  assert len(seen) == (50 if mirror else 25)


def test_images_of_a_batch_are_cut_at_their_own_places():
  same = np.repeat(IMAGE[:1], 64, axis=0)
  out = augment.crop_and_flip(same, np.random.default_rng(0))
  assert len({image.tobytes() for image in out}) > 32


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (50, 70), (9, 400)])
def test_large_images_come_out_square(shape):
  image = np.random.default_rng(0).integers(256, size=(*shape, 3))
  image = image.astype(np.uint8)
  center = augment.resized_center(image, 64)
  assert center.shape == (64, 64, 3)
  assert center.dtype == np.uint8
  crops = [
    augment.resized_crop(image, 64, np.random.default_rng(seed))
    for seed in range(4)
  ]
  assert {crop.shape for crop in crops} == {(64, 64, 3)}
  # The last shape has no part of the wanted ratios but small ones.
  assert len({crop.tobytes() for crop in crops}) > 1


def test_the_center_is_the_center():
  image = np.zeros((128, 192, 3), np.uint8)
  image[54:74, 86:106] = 255  # Around (64, 96).
  center = augment.resized_center(image, 112)  # 128 = 112 * 8/7: no scaling.
  np.testing.assert_array_equal(center, image[8:120, 40:152])
