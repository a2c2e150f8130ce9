"""Norms: pure functions with explicit parameters and state.

`make("rms_norm", eps=1e-5)` is a `Norm`; `norm.init((d,))` makes its variables
and `norm.apply(variables, x)` normalises channels-last `x`. A new norm is a
file here and a line of `TABLE`; every shared test then runs on it.
"""

from collections.abc import Mapping
from typing import Any

from normjax.norms.base import Norm, NormSpec, NormTraits
from normjax.norms.modes import EVALUATE, TRAIN, Mode
from normjax.registry import Registry

__all__ = [
  "EVALUATE",
  "TABLE",
  "TRAIN",
  "Mode",
  "Norm",
  "NormSpec",
  "NormTraits",
  "make",
  "names",
  "resolve",
]

TABLE: Mapping[str, str] = {
  "layer_norm": "normjax.norms.layer_norm:layer_norm",
  "rms_norm": "normjax.norms.rms_norm:rms_norm",
  "dyt": "normjax.norms.dyt:dyt",
  "batch_norm": "normjax.norms.batch_norm:batch_norm",
  "identity": "normjax.norms.identity:identity",
  "crms_norm": "normjax.norms.crms_norm:crms_norm",
  "scale_norm": "normjax.norms.scale_norm:scale_norm",
  "l2_norm": "normjax.norms.l2_norm:l2_norm",
  "derf": "normjax.norms.derf:derf",
  "seednorm": "normjax.norms.seednorm:seednorm",
  "pre_affine": "normjax.norms.pre_affine:pre_affine",
  "gated_norm": "normjax.norms.gated_norm:gated_norm",
  "bhyt": "normjax.norms.bhyt:bhyt",
  "power_norm": "normjax.norms.power_norm:power_norm",
  "unified_norm": "normjax.norms.unified_norm:unified_norm",
  "group_norm": "normjax.norms.group_norm:group_norm",
  "instance_norm": "normjax.norms.instance_norm:instance_norm",
  "frn": "normjax.norms.frn:frn",
  "batch_renorm": "normjax.norms.batch_renorm:batch_renorm",
  "evonorm_b0": "normjax.norms.evonorm_batch:evonorm_b0",
  "evonorm_b1": "normjax.norms.evonorm_batch:evonorm_b1",
  "evonorm_b2": "normjax.norms.evonorm_batch:evonorm_b2",
  "evonorm_s0": "normjax.norms.evonorm_sample:evonorm_s0",
  "evonorm_s1": "normjax.norms.evonorm_sample:evonorm_s1",
  "evonorm_s2": "normjax.norms.evonorm_sample:evonorm_s2",
  "switchable_norm": "normjax.norms.switchable_norm:switchable_norm",
  "bcn": "normjax.norms.bcn:bcn",
  "adain": "normjax.norms.adain:adain",
  "adab2n": "normjax.norms.adab2n:adab2n",
  "cn": "normjax.norms.cn:cn",
  "dsbn": "normjax.norms.dsbn:dsbn",
  "conditional_batch_norm": (
    "normjax.norms.conditional_batch_norm:conditional_batch_norm"
  ),
  "film": "normjax.norms.film:film",
  "scenario_bn": "normjax.norms.scenario_bn:scenario_bn",
  "iabn": "normjax.norms.iabn:iabn",
}

_REGISTRY = Registry("norm", TABLE, from_outside=True, makes=Norm)


def names() -> tuple[str, ...]:
  """The names of all norms."""
  return _REGISTRY.names()


def make(name: str, **options: Any) -> Norm:
  """The norm called `name`; options that are left out are the paper's.

  Raises:
    UnknownNameError: no such norm.
    UserError: an option that the norm does not have, or a bad value.
  """
  return _REGISTRY.make(name, **options)


def resolve(spec: NormSpec) -> Norm:
  """A norm from "name", "name(option=value)", a mapping, or itself.

  A mapping is `{"name": ..., **options}`.

  Raises:
    UserError: a mapping without "name", or what `make` raises.
    TypeError: anything else.
  """
  return spec if isinstance(spec, Norm) else _REGISTRY.resolve(spec)
