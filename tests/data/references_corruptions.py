"""CIFAR-10-C's rules, one image at a time, in float64 loops.

After hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py, with the
mathematics of what it calls in scikit-image, OpenCV and ImageMagick written
out. Each takes an image (y, x, c) in [0, 1], a generator and the constants.
"""

import colorsys
import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage

CONSTANTS = {
  "gaussian_noise": [0.04, 0.06, 0.08, 0.09, 0.10],
  "shot_noise": [500, 250, 100, 75, 50],
  "impulse_noise": [0.01, 0.02, 0.03, 0.05, 0.07],
  "speckle_noise": [0.06, 0.1, 0.12, 0.16, 0.2],
  "gaussian_blur": [0.4, 0.6, 0.7, 0.8, 1],
  "frosted_glass_blur": [
    (0.05, 1, 1),
    (0.25, 1, 1),
    (0.4, 1, 1),
    (0.25, 1, 2),
    (0.4, 1, 2),
  ],
  "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
  "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
  "zoom_blur": [
    np.arange(1, 1.06, 0.01),
    np.arange(1, 1.11, 0.01),
    np.arange(1, 1.16, 0.01),
    np.arange(1, 1.21, 0.01),
    np.arange(1, 1.26, 0.01),
  ],
  "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
  "snow": [
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
  ],
  "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
  "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
  "saturate": [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
  "jpeg_compression": [80, 65, 58, 50, 40],
  "pixelate": [0.95, 0.9, 0.85, 0.75, 0.65],
  "elastic": [
    (0, 0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
  ],
}


def gaussian_noise(x, generator, c):
  return np.clip(x + generator.normal(size=x.shape) * c, 0, 1)


def shot_noise(x, generator, c):
  return np.clip(generator.poisson(x * c) / c, 0, 1)


def speckle_noise(x, generator, c):
  return np.clip(x + x * generator.normal(size=x.shape) * c, 0, 1)


def _gaussian(x, sigma, pad="edge", truncate=4.0):
  """skimage.filters.gaussian of a stack of channels."""
  if sigma == 0:
    return x
  radius = int(truncate * sigma + 0.5)
  taps = [
    math.exp(-(k**2) / (2 * sigma**2)) for k in range(-radius, radius + 1)
  ]
  taps = [tap / math.fsum(taps) for tap in taps]
  for axis in (0, 1):
    width = [(radius, radius) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = np.pad(x, width, mode=pad)
    size = x.shape[axis]
    x = sum(
      tap * np.take(padded, range(k, k + size), axis)
      for k, tap in enumerate(taps)
    )
  return x


def gaussian_blur(x, generator, c):
  return np.clip(_gaussian(x, c), 0, 1)


def frosted_glass_blur(x, generator, sigma, reach, rounds):
  x = np.uint8(_gaussian(x, sigma) * 255)
  height, width, _ = x.shape
  for _ in range(rounds):
    for h in range(height - reach, reach, -1):
      for w in range(width - reach, reach, -1):
        dx, dy = generator.integers(-reach, reach, size=(2,))
        # The official line; on arrays of channels it copies.
        x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
  return np.clip(_gaussian(x / 255.0, sigma), 0, 1)


def _disk(radius, alias_blur):
  grid = np.arange(-8, 9)
  columns, rows = np.meshgrid(grid, grid)
  flat = np.array(columns**2 + rows**2 <= radius**2, float)
  flat /= flat.sum()
  taps = np.array([math.exp(-(k**2) / (2 * alias_blur**2)) for k in (-1, 0, 1)])
  taps /= taps.sum()
  padded = np.pad(flat, 1, mode="reflect")
  result = np.zeros_like(flat)
  for i in range(3):
    for j in range(3):
      result += taps[i] * taps[j] * padded[i : i + 17, j : j + 17]
  return result


def defocus_blur(x, generator, radius, alias_blur):
  kernel = _disk(radius, alias_blur)
  padded = np.pad(x, ((8, 8), (8, 8), (0, 0)), mode="reflect")
  result = np.zeros_like(x)
  for i in range(x.shape[0]):
    for j in range(x.shape[1]):
      window = padded[i : i + 17, j : j + 17]
      result[i, j] = (kernel[..., None] * window).sum((0, 1))
  return np.clip(result, 0, 1)


def _bytes(x):
  return np.floor(x * 255 + 0.5) / 255


def _motion(x, radius, sigma, angle):
  """ImageMagick's MotionBlurImage, from and to 8 bits."""
  width = 2 * math.ceil(radius) + 1
  kernel = [math.exp(-(i * i) / (2 * sigma * sigma)) for i in range(width)]
  kernel = [k / math.fsum(kernel) for k in kernel]
  point = (
    width * math.sin(math.radians(angle)),
    width * math.cos(math.radians(angle)),
  )
  length = math.hypot(*point)
  right = [math.ceil(i * point[1] / length - 0.5) for i in range(width)]
  down = [math.ceil(i * point[0] / length - 0.5) for i in range(width)]
  x = _bytes(x)
  result = np.zeros_like(x)
  for i in range(x.shape[0]):
    for j in range(x.shape[1]):
      for k in range(width):
        row = min(max(i + down[k], 0), x.shape[0] - 1)
        column = min(max(j + right[k], 0), x.shape[1] - 1)
        result[i, j] += kernel[k] * x[row, column]
  return _bytes(result)


def motion_blur(x, generator, radius, sigma):
  return _motion(x, radius, sigma, generator.uniform(-45, 45))


def _clipped_zoom(x, factor):
  height = x.shape[0]
  kept = int(np.ceil(height / factor))
  top = (height - kept) // 2
  part = x[top : top + kept, top : top + kept]
  large = ndimage.zoom(part, (factor, factor, 1), order=1)
  trim = (large.shape[0] - height) // 2
  return large[trim : trim + height, trim : trim + height]


def zoom_blur(x, generator, factors):
  total = sum(_clipped_zoom(x, factor) for factor in factors)
  return np.clip((x + total) / (len(factors) + 1), 0, 1)


def _plasma(generator, size, decay):
  cloud = np.empty((size, size))
  cloud[0, 0] = 0
  step, wibble = size, 100.0
  while step >= 2:
    half = step // 2

    def at(i, j):
      return cloud[i % size, j % size]

    def mean(values, wibble=wibble):
      return sum(values) / 4 + wibble * generator.uniform(-wibble, wibble)

    grid = range(0, size, step)
    for i in grid:
      for j in grid:
        corners = at(i, j), at(i + step, j), at(i, j + step)
        corners += (at(i + step, j + step),)
        cloud[i + half, j + half] = mean(corners)
    for i in grid:
      for j in grid:
        near = at(i, j), at(i, j + step)
        near += at(i + half, j + half), at(i - half, j + half)
        cloud[i, j + half] = mean(near)
    for i in grid:
      for j in grid:
        near = at(i, j), at(i + step, j)
        near += at(i + half, j + half), at(i + half, j - half)
        cloud[i + half, j] = mean(near)
    step, wibble = half, wibble / decay
  cloud -= cloud.min()
  return cloud / cloud.max()


def fog(x, generator, amount, decay):
  size = 2 ** math.ceil(math.log2(x.shape[0]))
  cloud = _plasma(generator, size, decay)[: x.shape[0], : x.shape[1], None]
  largest = x.max()
  return np.clip((x + amount * cloud) * largest / (largest + amount), 0, 1)


def snow(x, generator, mean, deviation, factor, threshold, radius, sigma, kept):
  layer = mean + deviation * generator.normal(size=x.shape[:2])
  layer = _clipped_zoom(layer[..., None], factor)
  layer[layer < threshold] = 0
  layer = (np.clip(layer, 0, 1) * 255).astype(np.uint8) / 255.0
  layer = _motion(layer, radius, sigma, generator.uniform(-135, -45))
  grey = x
  if x.shape[-1] == 3:
    grey = 0.299 * x[..., :1] + 0.587 * x[..., 1:2] + 0.114 * x[..., 2:]
  x = kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5)
  return np.clip(x + layer + np.rot90(layer, k=2), 0, 1)


def contrast(x, generator, c):
  means = np.mean(x, axis=(0, 1), keepdims=True)
  return np.clip((x - means) * c + means, 0, 1)


def _in_hsv(x, change):
  result = np.empty_like(x)
  for place in np.ndindex(x.shape[:2]):
    pixel = x[place] if x.shape[-1] == 3 else [x[place][0]] * 3
    rgb = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel)))
    result[place] = rgb if x.shape[-1] == 3 else max(rgb)
  return result


def brightness(x, generator, c):
  return _in_hsv(x, lambda h, s, v: (h, s, min(v + c, 1)))


def saturate(x, generator, factor, added):
  return _in_hsv(x, lambda h, s, v: (h, min(s * factor + added, 1), v))


def _pillow(x, function):
  pixels = np.uint8(np.floor(x * 255 + 0.5))
  pixels = pixels if x.shape[-1] == 3 else pixels[..., 0]
  return np.asarray(function(Image.fromarray(pixels))).reshape(x.shape) / 255


def jpeg_compression(x, generator, quality):
  def function(image):
    output = io.BytesIO()
    image.save(output, "JPEG", quality=quality)
    return Image.open(output)

  return _pillow(x, function)


def pixelate(x, generator, c):
  side = x.shape[0]

  def function(image):
    image = image.resize((int(side * c), int(side * c)), Image.BOX)
    return image.resize((side, side), Image.BOX)

  return _pillow(x, function)


def elastic(x, generator, amplitude, smoothing, jitter):
  size = x.shape[0]
  amplitude, smoothing, jitter = (
    size * c for c in (amplitude, smoothing, jitter)
  )
  center, third = size // 2, size // 3
  before = np.array(
    [
      [center + third, center + third],
      [center + third, center - third],
      [center - third, center - third],
    ],
    float,
  )
  after = before + generator.uniform(-jitter, jitter, size=before.shape)
  system, right_side = np.zeros((6, 6)), np.zeros(6)
  for k in range(3):
    system[2 * k, :2], system[2 * k, 2] = before[k], 1
    system[2 * k + 1, 3:5], system[2 * k + 1, 5] = before[k], 1
    right_side[2 * k : 2 * k + 2] = after[k]
  forward = np.eye(3)
  forward[:2] = np.linalg.solve(system, right_side).reshape(2, 3)
  backward = np.linalg.inv(forward)

  def mirrored(k):
    while not 0 <= k < size:
      k = -k if k < 0 else 2 * (size - 1) - k
    return k

  warped = np.zeros_like(x)
  for i in range(size):
    for j in range(size):
      column, row, _ = backward @ [j, i, 1]
      top, left = math.floor(row), math.floor(column)
      for a in (0, 1):
        for b in (0, 1):
          weight = (1 - abs(row - top - a)) * (1 - abs(column - left - b))
          warped[i, j] += weight * x[mirrored(top + a), mirrored(left + b)]
  dx, dy = (
    amplitude
    * _gaussian(
      generator.uniform(-1, 1, size=(size, size)),
      smoothing,
      pad="symmetric",
      truncate=3,
    )
    for _ in range(2)
  )
  rows, columns = np.mgrid[:size, :size]
  result = [
    ndimage.map_coordinates(
      warped[..., c], [rows + dy, columns + dx], order=1, mode="reflect"
    )
    for c in range(x.shape[-1])
  ]
  return np.clip(np.stack(result, -1), 0, 1)
