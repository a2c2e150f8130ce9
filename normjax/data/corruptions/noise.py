"""Noise; every channel has its own."""

import numpy as np

from normjax.data.corruptions.kind import Draws, Kind


def gaussian_noise(
  images_byxc: np.ndarray, draws: Draws, deviation: float
) -> np.ndarray:
  """Adds deviation z with z ~ N(0, 1)."""
  return images_byxc + deviation * draws.normal(images_byxc.shape[1:])


def shot_noise(
  images_byxc: np.ndarray, draws: Draws, photons: float
) -> np.ndarray:
  """Poisson(photons x) / photons."""
  return draws.poisson(images_byxc * photons) / photons


def impulse_noise(
  images_byxc: np.ndarray, draws: Draws, amount: float
) -> np.ndarray:
  """A part `amount` of the values becomes 0 or 1, each half of the time."""
  shape = images_byxc.shape[1:]
  flipped = draws.uniform(0, 1, shape) < amount
  salt = draws.uniform(0, 1, shape) < 0.5
  return np.where(flipped, salt, images_byxc)


def speckle_noise(
  images_byxc: np.ndarray, draws: Draws, deviation: float
) -> np.ndarray:
  """Adds deviation x z with z ~ N(0, 1)."""
  noise = deviation * draws.normal(images_byxc.shape[1:])
  return images_byxc + images_byxc * noise


def _each(*values: float) -> tuple[tuple[float], ...]:
  return tuple((value,) for value in values)


KINDS = (
  Kind("gaussian_noise", gaussian_noise, _each(0.04, 0.06, 0.08, 0.09, 0.10)),
  Kind("shot_noise", shot_noise, _each(500, 250, 100, 75, 50)),
  Kind("impulse_noise", impulse_noise, _each(0.01, 0.02, 0.03, 0.05, 0.07)),
  Kind(
    "speckle_noise",
    speckle_noise,
    _each(0.06, 0.10, 0.12, 0.16, 0.20),
    common=False,
  ),
)
