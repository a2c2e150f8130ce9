"""Trained models to other models: for good, and as steps of a run's start.

model = convert.deploy(model)
model, account = convert.fold(model)
model = convert.pre_crms_norm(model)
model = convert.replace_norm(model, "dyt", inputs)    # surgery
std_by_path = convert.deviations(model, tokens)    # of what norms are given
model = convert.stock_layer_norms(model)    # after remove_norms
model = convert.from_pretrained("folder")    # released weights
convert.save_pretrained(model, "other_folder")
config = convert.pretrained_config(config, "folder")    # a run of them
config.data.update(convert.image_options("folder"))     # of images like theirs
step = convert.start_step("deploy")    # in a config: train.initialize_from
"""

import re

from normjax import errors
from normjax.convert.deploy import deploy
from normjax.convert.equivalence import pre_crms_norm, pre_rms_norm, recentre
from normjax.convert.exported import save_pretrained
from normjax.convert.folding import fold
from normjax.convert.image_input import image_options
from normjax.convert.linear_norms import stock_layer_norms
from normjax.convert.norm_inputs import deviations
from normjax.convert.pretrained import from_pretrained, pretrained_config
from normjax.convert.surgery import replace_norm
from normjax.nn.start import StartStep
from normjax.registry import Registry, is_outside

# By name, what makes the step from its options. A text is no import: nothing
# here knows of runs.
TABLE = {
  "run": "normjax.train.from_run:from_run",
  "domains_from_batch_norm": (
    "normjax.train.domains_from_batch_norm:domains_from_batch_norm"
  ),
  "deploy": "normjax.convert.deploy:start_step",
  "fold": "normjax.convert.folding:start_step",
  "pre_rms_norm": "normjax.convert.equivalence:pre_rms_norm_step",
  "pre_crms_norm": "normjax.convert.equivalence:pre_crms_norm_step",
  "remove_norms": "normjax.convert.removal:remove_norms_step",
  "taper_norms": "normjax.convert.taper:taper_norms_step",
  "replace_norm": "normjax.convert.surgery:replace_norm_step",
  "pretrained": "normjax.train.pretrained:pretrained",
  "from_pretrained": "normjax.convert.pretrained:from_pretrained_step",
}
_KIND = "start step"
_REGISTRY = Registry(_KIND, TABLE, from_outside=True)
names = _REGISTRY.names
# What may be given without the option's name: from_pretrained("gpt2").
_FIRST = {
  "run": "directory",
  "from_pretrained": "folder",
  "replace_norm": "norm",
}
_WITH_FIRST = re.compile(rf"^({'|'.join(_FIRST)})\(\s*(?=['\"])")


def start_step(text: str) -> StartStep:
  """What one entry of `train.initialize_from` means.

  Args:
    text: "name" or "name(option=value, …)", the name one of the table or
      "package.module:factory". A text with a slash is the folder of a run. The
      folder of `run` and of `from_pretrained`, and the norm of `replace_norm`,
      need no "option=".

  Raises:
    UserError: neither; a factory of one's own that cannot be imported, or
      makes no step; or what the factory raises.
  """
  if "/" in text.partition("(")[0]:
    return _REGISTRY.make("run", directory=text)
  text = _WITH_FIRST.sub(lambda m: f"{m[1]}({_FIRST[m[1]]}=", text)
  try:
    step = _REGISTRY.resolve(text)
  except errors.UnknownNameError as error:
    raise errors.UnknownNameError(
      f"{error} The folder of a run has a slash, as in './{text}'."
    ) from error
  if not isinstance(step, StartStep):
    raise errors.UserError(
      f"{_KIND} {text!r} is a {type(step).__name__}; needed: a"
      " normjax.nn.start.StartStep."
    )
  return step


def reads_as_step(text: str) -> bool:
  """Whether a text is written as a step, not as the folder of a run."""
  return text.partition("(")[0] in names() or is_outside(text)


__all__ = [
  "TABLE",
  "deploy",
  "deviations",
  "fold",
  "from_pretrained",
  "image_options",
  "names",
  "pre_crms_norm",
  "pre_rms_norm",
  "pretrained_config",
  "reads_as_step",
  "recentre",
  "replace_norm",
  "save_pretrained",
  "start_step",
  "stock_layer_norms",
]
