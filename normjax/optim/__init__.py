"""Optimizers: optax-style transforms, each complete on its own.

    from normjax import optim

    tx = optim.adamp(1e-3, weight_decay=1e-2)  # an optax transform
    tx = optim.make("muon", learning_rate=0.02)  # the same, by name

A new optimizer is a file here and a line of `TABLE`; every shared test then
runs on it. What else a file makes public is in its own `__all__`. Names are
imported when first used.
"""

import functools
import sys
import types
from collections.abc import Mapping
from typing import Any

from normjax import errors, registry

TABLE: Mapping[str, str] = {
  "adamw": "normjax.optim.adamw:adamw",
  "adamp": "normjax.optim.adamp:adamp",
  "sgdp": "normjax.optim.sgdp:sgdp",
  "muon": "normjax.optim.muon:muon",
  "normuon": "normjax.optim.normuon:normuon",
  "swan": "normjax.optim.swan:swan",
  "sinkgd": "normjax.optim.sinkgd:sinkgd",
  "racs": "normjax.optim.racs:racs",
  "scale": "normjax.optim.scale:scale",
  "conda": "normjax.optim.conda:conda",
  "galore": "normjax.optim.galore:galore",
  "fira": "normjax.optim.fira:fira",
  "apollo": "normjax.optim.apollo:apollo",
  "apollo_mini": "normjax.optim.apollo_mini:apollo_mini",
  "dion": "normjax.optim.dion:dion",
  "soap": "normjax.optim.soap:soap",
  "adam_8bit": "normjax.optim.adam_8bit:adam_8bit",
  "adamw_8bit": "normjax.optim.adam_8bit:adamw_8bit",
  "momentum_8bit": "normjax.optim.momentum_8bit:momentum_8bit",
  "lion_8bit": "normjax.optim.lion_8bit:lion_8bit",
  "adamw_4bit": "normjax.optim.adam_4bit:adamw_4bit",
  "adamw_fp8": "normjax.optim.adam_fp8:adamw_fp8",
  "stable_spam": "normjax.optim.stable_spam:stable_spam",
  "badam": "normjax.optim.badam:badam",
  "lisa": "normjax.optim.lisa:lisa",
  "bcd": "normjax.optim.bcd:bcd",
  "lion": "normjax.optim.lion:lion",
  "lamb": "normjax.optim.lamb:lamb",
  "adafactor": "normjax.optim.adafactor:adafactor",
  "normalized_gd": "normjax.optim.normalized_gd:normalized_gd",
  "nap_adamw": "normjax.optim.nap:nap_adamw",
  "ngpt_adam": "normjax.optim.normalized_weights:ngpt_adam",
  "sgd": "normjax.optim.sgd:sgd",
  "nfnet_sgd": "normjax.optim.nfnet_sgd:nfnet_sgd",
  "ei_sgd": "normjax.optim.ei_sgd:ei_sgd",
}

REGISTRY = registry.Registry("optimizer", TABLE, from_outside=True)


def names() -> tuple[str, ...]:
  """The names of all optimizers."""
  return REGISTRY.names()


def make(name: str, **options: Any) -> Any:
  """The optimizer called `name`, an `optax.GradientTransformationExtraArgs`.

  Args:
    name: one of `names()`.
    **options: `learning_rate` and the factory's other options, by name;
      numbers may be traced arrays.

  Raises:
    UnknownNameError: no such optimizer.
    UserError: an option that it does not have, or a bad value.
  """
  made = REGISTRY.make(name, **options)
  # One from outside may have made anything.
  if not callable(getattr(made, "init", None)) or not hasattr(made, "update"):
    raise errors.UserError(
      f"optimizer {name!r} gives a {type(made).__name__}; needed: an"
      " optax.GradientTransformation."
    )
  return made


@functools.cache
def exports() -> Mapping[str, str]:
  """Public name to "module:name": `__all__` of each file of the package."""
  return registry.exports(__name__, __path__)


def __getattr__(name: str) -> Any:
  if name == "__all__":
    return __dir__()
  if name in TABLE or name in exports():
    return registry.load(TABLE.get(name) or exports()[name])
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({"TABLE", "make", "names", *TABLE, *exports()})


class _Package(types.ModuleType):
  """Keeps `optim.muon` the function.

  The import of the file `muon.py` binds the package's attribute `muon` to
  the module, which would hide the function of the same name.
  """

  def __setattr__(self, name: str, value: Any) -> None:
    public = name in TABLE or name in exports()
    if isinstance(value, types.ModuleType) and public:
      return
    super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
