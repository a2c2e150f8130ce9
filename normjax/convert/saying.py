"""What a config.json has a word for, asked of a model that is to be written."""

from collections.abc import Mapping
from typing import Any

from normjax import errors
from normjax.nn.norm_layer import NormLayer


def norm_option(layer: NormLayer, norm: str, option: str) -> Any:
  """An option of the norm that the family has.

  Raises:
    UserError: the layer has another norm.
  """
  if layer.norm.name != norm:
    raise errors.UserError(
      f"its norm is {layer.norm.name!r}; config.json has words for {norm!r}"
    )
  return layer.norm.options[option]


def word(what: str, words: Mapping[str, Any], value: str) -> Any:
  """What the family calls a thing that is `value` here.

  Raises:
    UserError: it has no word for it.
  """
  if value not in words:
    raise errors.UserError(
      f"its {what} is {value!r}; config.json has words for"
      f" {', '.join(map(repr, words))}"
    )
  return words[value]
