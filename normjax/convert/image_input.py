"""What a folder of released weights says of the images that it reads."""

import math
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.convert import timm_config
from normjax.convert.settings import Settings
from normjax.convert.weights.folder import CONFIG, existing, read_json

_PREPROCESSOR = "preprocessor_config.json"


def image_options(folder: str | Path) -> dict[str, Any]:
  """How the images of a checkpoint are prepared, as options of `image_folder`.

  Weights are only worth something with the mean and the deviation that they
  were trained with, and no model here applies them:

      config.data.update(convert.image_options(folder))

  Args:
    folder: with timm's config.json, or transformers' preprocessor_config.json.

  Returns:
    image_size, channels, crop_fraction, mean and deviation. How pixels are
    interpolated is no option: the data set has one way.

  Raises:
    UserError: the folder does not say it, or says what `image_folder` cannot
      do.
  """
  folder = existing(folder)
  for name, read in ((_PREPROCESSOR, _of_transformers), (CONFIG, _of_timm)):
    if (folder / name).is_file():
      settings = Settings(read_json(folder / name), str(folder / name))
      found = read(settings)
      if found is not None:
        return found
  raise errors.DataError(
    f"{folder} does not say how its images were prepared; looked for:"
    f" {_PREPROCESSOR}, and pretrained_cfg with 'mean' in {CONFIG}. ImageNet's"
    " mean and deviation, which torchvision's weights ask for, are the defaults"
    " of image_folder."
  )


def _of_timm(settings: Settings) -> dict[str, Any] | None:
  said = settings.block("pretrained_cfg") or settings
  if "mean" not in said:
    return None
  channels, height, width = timm_config.input_size(said)
  if height != width:
    said.refuse("input_size", "image_folder gives squares")
  return {
    "image_size": height,
    "channels": channels,
    "crop_fraction": said.number("crop_pct", 0.875),
    "mean": _per_channel(said, "mean", channels),
    "deviation": _per_channel(said, "std", channels),
  }


def _of_transformers(settings: Settings) -> dict[str, Any]:
  settings.only("do_normalize", True)
  settings.only("do_rescale", True)
  if not math.isclose(settings.number("rescale_factor", 1 / 255), 1 / 255):
    settings.refuse("rescale_factor", "image_folder has pixels over 255")
  mean = settings.get("image_mean")
  channels = len(mean) if isinstance(mean, list) else 0
  resized = _side(settings, "size")
  crops = settings.flag("do_center_crop", False)
  size = _side(settings, "crop_size") if crops else resized
  if size > resized:
    settings.refuse("crop_size", f"allowed: at most size, {resized}")
  return {
    "image_size": size,
    "channels": channels,
    "crop_fraction": size / resized,
    "mean": _per_channel(settings, "image_mean", channels),
    "deviation": _per_channel(settings, "image_std", channels),
  }


def _side(settings: Settings, key: str) -> int:
  """Of a square: a number, height and width, or the shorter side."""
  value = settings.get(key)
  if not isinstance(value, dict):
    return timm_config.side(settings, key)
  sides = settings.block(key)
  assert sides is not None
  if "shortest_edge" in sides:
    return sides.count("shortest_edge")
  height = sides.count("height")
  if sides.count("width") != height:
    settings.refuse(key, "image_folder gives squares")
  return height


def _per_channel(
  settings: Settings, key: str, channels: int
) -> tuple[float, ...]:
  value = settings.get(key)
  if (
    not isinstance(value, list)
    or len(value) != channels
    or not all(isinstance(one, int | float) for one in value)
  ):
    settings.refuse(key, "allowed: one number for each channel")
  return tuple(map(float, value))
