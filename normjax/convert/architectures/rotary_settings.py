"""How config.json says rotary positions, in transformers' words of 4 and 5.

    rope_theta, rope_scaling {rope_type or type, …}     4
    rope_parameters {rope_theta, rope_type, …}          5

Read: huggingface/transformers (Apache-2.0), modeling_rope_utils.py.
"""

from collections.abc import Mapping
from typing import Any

from normjax import errors
from normjax.convert.settings import Settings
from normjax.nn import rotary_scaling
from normjax.nn.rotary_scaling import RotaryScaling

# Our options of "llama3" by their names of them.
_LLAMA3 = {
  "factor": "factor",
  "low_freq_factor": "low_frequency_factor",
  "high_freq_factor": "high_frequency_factor",
  "original_max_position_embeddings": "original_length",
}
_KINDS = {"default": "none", "linear": "linear", "llama3": "llama3"}
_LENGTH = "original_max_position_embeddings"


def read(
  settings: Settings,
  size: int,
  *,
  base: str = "rope_theta",
  share: str | None = None,
  default_share: float = 1.0,
) -> dict[str, Any]:
  """Options of `models.make("llama")` that say the rotation.

  Args:
    settings: of config.json.
    size: features of a head.
    base: the key of the base outside the block.
    share: the key, outside the block, of the share of a head's features that
      rotate; None: all rotate in this family.
    default_share: where nothing says it.

  Raises:
    UserError: a rotation that no model here has.
  """
  block = settings.block("rope_scaling") or settings.block("rope_parameters")
  if block is None:
    block = Settings({}, settings.where, "rope_scaling.")
  theta = block.number("rope_theta", settings.number(base, 10_000.0))
  key = "rope_type" if "rope_type" in block else "type"
  if key not in block and any(
    isinstance(value, Mapping) for value in block.values.values()
  ):
    block.refuse("rope_type", "models here have one rotation for all layers")
  name = block.choice(key, _KINDS, "default")
  return {
    "rope_theta": theta,
    "rope_scaling": _scaling(settings, block, name),
    "rotary_dim": _rotary_dim(settings, block, size, share, default_share),
  }


def _scaling(settings: Settings, block: Settings, name: str) -> str:
  if name == "none":
    return name
  options: dict[str, float] = {"factor": block.number("factor")}
  if name == "llama3":
    for theirs in ("low_freq_factor", "high_freq_factor"):
      options[_LLAMA3[theirs]] = block.number(theirs)
    holder = settings if _LENGTH in settings else block
    if _LENGTH not in holder:
      length = settings.count("max_position_embeddings")
    else:
      length = holder.count(_LENGTH)
    options[_LLAMA3[_LENGTH]] = length
  said = ", ".join(f"{key}={value!r}" for key, value in options.items())
  scaling = f"{name}({said})"
  try:
    rotary_scaling.resolve(scaling)
  except errors.UserError as error:
    raise type(error)(f"{settings.where}: {error}") from error
  return scaling


def _rotary_dim(
  settings: Settings,
  block: Settings,
  size: int,
  share: str | None,
  default_share: float,
) -> int | None:
  inside = "partial_rotary_factor"
  if share is None:
    for holder in (settings, block):
      if holder.number(inside, 1.0) != 1.0:
        holder.refuse(inside, "models here rotate all features of such a head")
    if size % 2:
      settings.refuse(
        "head_dim" if "head_dim" in settings else "num_attention_heads",
        f"heads have {size} features, and those that rotate are an even number",
      )
    return None
  holder, key = (block, inside) if inside in block else (settings, share)
  part = holder.number(key, default_share)
  rotary_dim = int(size * part)
  if rotary_dim % 2 or not 0 < rotary_dim <= size:
    holder.refuse(
      key,
      f"of the {size} features of a head that is {rotary_dim}, and those that"
      " rotate are an even number",
    )
  return None if rotary_dim == size else rotary_dim


def written(
  theta: float, scaling: RotaryScaling, *, base: str = "rope_theta"
) -> dict[str, Any]:
  """The keys of config.json, as both versions of transformers read them."""
  config: dict[str, Any] = {base: theta}
  if scaling.name == "none":
    return config
  options = scaling.options
  names = {ours: theirs for theirs, ours in _LLAMA3.items()}
  block = {names[ours]: value for ours, value in options.items()}
  config["rope_scaling"] = {"rope_type": scaling.name, **block}
  if scaling.name == "llama3":
    # transformers warns where a model's length is not above the original one.
    length = int(options["original_length"] * options["factor"])
    config["max_position_embeddings"] = length
  return config


def share_of(rotary_dim: int, size: int) -> float:
  """A share of a head's features from which `read` gets `rotary_dim` back."""
  share = rotary_dim / size
  # Rounded down it would be one feature less.
  return share if int(size * share) == rotary_dim else (rotary_dim + 0.5) / size
