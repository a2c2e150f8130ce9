"""What a family of released models is, and which one a config.json names."""

import dataclasses
import fnmatch
from collections.abc import Callable
from typing import Any

from flax import nnx

from normjax import errors
from normjax.convert.entries import Declared
from normjax.convert.settings import Settings
from normjax.registry import Registry, near_misses

# By name, a module's `ARCHITECTURE`; the first that can say what a model is
# writes it.
TABLE = {
  "gpt2": "normjax.convert.architectures.gpt2:ARCHITECTURE",
  "llama": "normjax.convert.architectures.llama:ARCHITECTURE",
  "qwen2": "normjax.convert.architectures.qwen2:ARCHITECTURE",
  "qwen3": "normjax.convert.architectures.qwen3:ARCHITECTURE",
  "olmo2": "normjax.convert.architectures.olmo2:ARCHITECTURE",
  "gpt_neox": "normjax.convert.architectures.gpt_neox:ARCHITECTURE",
  "vit": "normjax.convert.architectures.vit:TRANSFORMERS",
  "timm_vit": "normjax.convert.architectures.vit:TIMM",
  "resnet": "normjax.convert.architectures.resnet:ARCHITECTURE",
  "nfnet": "normjax.convert.architectures.nfnet:ARCHITECTURE",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
  """A family: functions between its config.json and a model here.

  Attributes:
    name: its name in the table.
    answers_to: what config.json calls it: values of `model_type`, entries of
      `architectures`, timm's `architecture`; with `*` as in names of files.
    options: config.json to (name of a model here, options of `models.make`),
      which decide all that a result depends on. Refuses, by name, settings that
      no model here has.
    config: a model, maybe of shapes alone, to a config.json that `options`
      reads; it need not look whether the model is of this family, since what is
      read back is compared with the model.
    entries: a model, maybe of shapes alone, to its tensors.
    prefix: which begins most names in a file of the whole model, and none in a
      file of the model without its head.
    models: names, in the zoo, of what it writes; (): any may be asked of it.
    ignored: regular expressions, of whole names without the prefix, of tensors
      that hold no weights.
  """

  name: str
  answers_to: tuple[str, ...]
  options: Callable[[Settings], tuple[str, dict[str, Any]]]
  config: Callable[[nnx.Module], dict[str, Any]]
  entries: Callable[[nnx.Module], Declared]
  models: tuple[str, ...] = ()
  prefix: str = ""
  ignored: tuple[str, ...] = ()

  def answers(self, name: str) -> bool:
    """Whether a config.json may call it so."""
    known = (self.name, *self.answers_to)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in known)


def get(name: str) -> Architecture:
  """The architecture of that name in the table."""
  return Registry("architecture", TABLE).get(name)


def named(name: str, where: str) -> Architecture:
  """The architecture that answers to a name.

  Args:
    name: as in a config.json.
    where: begins the message.

  Raises:
    UserError: none does.
  """
  if not isinstance(name, str):
    raise errors.UserError(f"{where}={name!r}; allowed: a name.")
  known = [get(own) for own in TABLE]
  for found in known:
    if found.answers(name):
      return found
  names = [n for a in known for n in (a.name, *a.answers_to)]
  raise errors.UnknownNameError(
    f"{where}: unknown architecture {name!r}.{near_misses(name, names)}"
    f" Known: {', '.join(dict.fromkeys(names))}."
  )


def of(settings: Settings) -> Architecture:
  """The architecture that a config.json names.

  Raises:
    UserError: it names none, or one that is not known here.
  """
  for key in ("model_type", "architecture"):
    if key in settings:
      value = settings.get(key)
      if not isinstance(value, str):
        settings.refuse(key, "allowed: the name of an architecture")
      return named(value, settings.where)
  listed = settings.get("architectures", ())
  if isinstance(listed, list) and listed and isinstance(listed[0], str):
    return named(listed[0], settings.where)
  raise errors.UserError(
    f"{settings.where} lacks 'model_type' (transformers) and 'architecture'"
    " (timm); one of them says what the model is. The option architecture=…"
    " says it too."
  )
