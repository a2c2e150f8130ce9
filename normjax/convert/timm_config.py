"""A config.json of timm: a registered name, and what was said beside it.

Read: huggingface/pytorch-image-models (Apache-2.0), timm/models/_hub.py and
timm/models/_builder.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from normjax.convert.settings import Settings, is_count
from normjax.registry import near_misses

# Arguments of timm's models that no logit of an evaluation depends on.
_TRAINING_ONLY = frozenset(
  {
    "attn_drop_rate",
    "drop_block_rate",
    "drop_path_rate",
    "drop_rate",
    "fix_init",
    "patch_drop_rate",
    "pos_drop_rate",
    "proj_drop_rate",
    "weight_init",
    "zero_init_fc",
    "zero_init_last",
  }
)


def arguments(
  settings: Settings,
  registered: Mapping[str, Mapping[str, Any]],
  known: Collection[str],
) -> Settings:
  """What timm would call the model's class with.

  As in timm, `model_args` come before what the file says of classes and images,
  and that before what the name stands for.

  Args:
    settings: the file.
    registered: by name, the arguments that timm's entry point has.
    known: arguments that the caller reads.

  Returns:
    The arguments, with num_classes, in_chans and img_size among them.

  Raises:
    UserError: a name or an argument that is not known here.
  """
  name = settings.get("architecture")
  if name not in registered:
    settings.refuse(
      "architecture",
      f"no such model of timm here.{near_misses(name, registered)} Known:"
      f" {', '.join(registered)}",
    )
  data = settings.block("pretrained_cfg") or settings
  channels, *size = input_size(data)
  given = settings.block("model_args")
  own = {} if given is None else given.values
  classes = data.get("num_classes", 1000)
  values = {
    "num_classes": settings.get("num_classes", classes),
    "in_chans": channels,
    "img_size": tuple(size),
    **registered[name],
    **own,
  }
  found = Settings(values, settings.where, "model_args.")
  readable = {"num_classes", "in_chans", "img_size", *known}
  for key in own:
    if key not in readable and key not in _TRAINING_ONLY:
      found.refuse(
        key,
        f"models here have no such setting.{near_misses(key, readable)}"
        f" Allowed: {', '.join(sorted(readable))}",
      )
  return found


def input_size(data: Settings) -> tuple[int, int, int]:
  """(channels, height, width) of one image, as a block of timm's says it."""
  size = data.get("input_size", (3, 224, 224))
  if (
    not isinstance(size, list | tuple)
    or len(size) != 3
    or not all(map(is_count, size))
  ):
    data.refuse("input_size", "allowed: channels, height and width")
  return tuple(size)


def input_shape(arguments: Settings) -> tuple[int, int, int]:
  """(height, width, channels) of one image."""
  height, width = pair(arguments, "img_size")
  return height, width, arguments.count("in_chans")


def pair(settings: Settings, key: str, default: Any = None) -> tuple[int, int]:
  """A whole number for both axes, or one for each.

  Raises:
    UserError: neither.
  """
  value = settings.get(key, default)
  both = value if isinstance(value, list | tuple) else (value, value)
  if len(both) != 2 or not all(map(is_count, both)):
    settings.refuse(key, "allowed: a whole number >= 1, or two")
  return both[0], both[1]


def side(settings: Settings, key: str, default: int | None = None) -> int:
  """A whole number for both axes, said once or twice.

  Raises:
    UserError: neither.
  """
  height, width = pair(settings, key, default)
  if height != width:
    settings.refuse(key, "models here have the same for height and width")
  return height


def numbers(settings: Settings, key: str) -> tuple[int, ...]:
  """Whole numbers.

  Raises:
    UserError: others.
  """
  value = settings.get(key)
  if (
    not isinstance(value, list | tuple)
    or not value
    or not all(map(is_count, value))
  ):
    settings.refuse(key, "allowed: whole numbers >= 1")
  return tuple(value)


def written(
  architecture: str,
  input_shape: tuple[int, int, int],
  num_classes: int,
  first_conv: str,
  classifier: str,
  *,
  fixed_input_size: bool = False,
  **model_args: Any,
) -> dict[str, Any]:
  """A config.json that timm reads.

  Args:
    architecture: a registered name.
    input_shape: (height, width, channels) of one image.
    num_classes: outputs.
    first_conv: the name of the first convolution.
    classifier: the name of the last layer.
    fixed_input_size: whether the model takes images of this size alone.
    **model_args: beside those that the name stands for.
  """
  height, width, channels = input_shape
  return {
    "architecture": architecture,
    "num_classes": num_classes,
    "model_args": {
      "num_classes": num_classes,
      "in_chans": channels,
      **model_args,
    },
    "pretrained_cfg": {
      "num_classes": num_classes,
      "input_size": [channels, height, width],
      "fixed_input_size": fixed_input_size,
      "first_conv": first_conv,
      "classifier": classifier,
    },
  }
