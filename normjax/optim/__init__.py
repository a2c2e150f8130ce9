"""Optimizers: optax-style transforms, each complete on its own.

    from normjax import optim

    tx = optim.adamp(1e-3, weight_decay=1e-2)  # an optax transform
    tx = optim.make("muon", learning_rate=0.02)  # the same, by name

A new optimizer is a file here and a line of `TABLE`; every shared test then
runs on it. Names are imported when first used.
"""

import importlib
import sys
import types
from collections.abc import Mapping
from typing import Any

from normjax.registry import Registry

TABLE: Mapping[str, str] = {
  "adamw": "normjax.optim.adamw:adamw",
  "adamp": "normjax.optim.adamp:adamp",
  "sgdp": "normjax.optim.sgdp:sgdp",
  "muon": "normjax.optim.muon:muon",
  "normuon": "normjax.optim.normuon:normuon",
  "swan": "normjax.optim.swan:swan",
  "sinkgd": "normjax.optim.sinkgd:sinkgd",
  "racs": "normjax.optim.racs:racs",
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
  "lion": "normjax.optim.lion:lion",
  "lamb": "normjax.optim.lamb:lamb",
  "adafactor": "normjax.optim.adafactor:adafactor",
  "normalized_gd": "normjax.optim.normalized_gd:normalized_gd",
  "nap_adamw": "normjax.optim.nap:nap_adamw",
  "sgd": "normjax.optim.sgd:sgd",
  "nfnet_sgd": "normjax.optim.nfnet_sgd:nfnet_sgd",
  "ei_sgd": "normjax.optim.ei_sgd:ei_sgd",
}

# What is public beside the optimizers of the table.
EXPORTS: Mapping[str, str] = {
  "MatrixDims": "normjax.optim.dims:MatrixDims",
  "Quantized": "normjax.optim.blockwise:Quantized",
  "adaptive_grad_clip": ("normjax.optim.adaptive_grad_clip:adaptive_grad_clip"),
  "by_path": "normjax.optim.policies:by_path",
  "channel_dims": "normjax.optim.dims:channel_dims",
  "decay_mask": "normjax.optim.groups:decay_mask",
  "default_dims": "normjax.optim.dims:default_dims",
  "dequantize_blockwise": "normjax.optim.blockwise:dequantize_blockwise",
  "describe": "normjax.optim.state:describe",
  "dynamic_map": "normjax.optim.blockwise:dynamic_map",
  "evaluation_params": "normjax.optim.evaluation:evaluation_params",
  "mean_residual": "normjax.optim.logistic:mean_residual",
  "non_negative_mask": "normjax.optim.sign_constrained:non_negative_mask",
  "normalize_and_project": "normjax.optim.nap:normalize_and_project",
  "normalized_logistic_gd": "normjax.optim.logistic:normalized_logistic_gd",
  "orthogonalize": "normjax.optim.muon:orthogonalize",
  "partition_by_path": "normjax.optim.policies:partition_by_path",
  "quantize_blockwise": "normjax.optim.blockwise:quantize_blockwise",
  "quantize_state": "normjax.optim.quantize_state:quantize_state",
  "scale_by_adam": "normjax.optim.adamw:scale_by_adam",
  "scale_by_adam_8bit": "normjax.optim.adam_8bit:scale_by_adam_8bit",
  "scale_by_adamp": "normjax.optim.adamp:scale_by_adamp",
  "scale_by_apollo": "normjax.optim.apollo:scale_by_apollo",
  "scale_by_conda": "normjax.optim.conda:scale_by_conda",
  "scale_by_dion": "normjax.optim.dion:scale_by_dion",
  "scale_by_ei_momentum": "normjax.optim.ei_sgd:scale_by_ei_momentum",
  "scale_by_factored_rms": "normjax.optim.adafactor:scale_by_factored_rms",
  "scale_by_fira": "normjax.optim.fira:scale_by_fira",
  "scale_by_galore": "normjax.optim.galore:scale_by_galore",
  "scale_by_gradient_norm": (
    "normjax.optim.normalized_gd:scale_by_gradient_norm"
  ),
  "scale_by_lion": "normjax.optim.lion:scale_by_lion",
  "scale_by_lion_8bit": "normjax.optim.lion_8bit:scale_by_lion_8bit",
  "scale_by_mean_residual": "normjax.optim.logistic:scale_by_mean_residual",
  "scale_by_momentum_8bit": (
    "normjax.optim.momentum_8bit:scale_by_momentum_8bit"
  ),
  "scale_by_momentum": "normjax.optim.sgd:scale_by_momentum",
  "scale_by_multi_norm": "normjax.optim.multi_norm:scale_by_multi_norm",
  "scale_by_muon": "normjax.optim.muon:scale_by_muon",
  "scale_by_normuon": "normjax.optim.normuon:scale_by_normuon",
  "scale_by_path": "normjax.optim.policies:scale_by_path",
  "scale_by_racs": "normjax.optim.racs:scale_by_racs",
  "scale_by_sgdp": "normjax.optim.sgdp:scale_by_sgdp",
  "scale_by_sinkhorn": "normjax.optim.sinkgd:scale_by_sinkhorn",
  "scale_by_soap": "normjax.optim.soap:scale_by_soap",
  "scale_by_swan": "normjax.optim.swan:scale_by_swan",
  "scale_by_trust_ratio": "normjax.optim.lamb:scale_by_trust_ratio",
  "selective_decay": "normjax.optim.policies:selective_decay",
  "sign_constrained": "normjax.optim.sign_constrained:sign_constrained",
  "sinkhorn": "normjax.optim.sinkgd:sinkhorn",
  "state_bytes": "normjax.optim.state:state_bytes",
  "torch_dims": "normjax.optim.dims:torch_dims",
  "whiten": "normjax.optim.whitening:whiten",
}

REGISTRY = Registry("optimizer", TABLE, from_outside=True)

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
  "EXPORTS",
  "TABLE",
  "make",
  "names",
  *TABLE,
  *EXPORTS,
]


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
  return REGISTRY.make(name, **options)


def _load(name: str) -> Any:
  module, _, attribute = (TABLE.get(name) or EXPORTS[name]).partition(":")
  return getattr(importlib.import_module(module), attribute)


def __getattr__(name: str) -> Any:
  if name in TABLE or name in EXPORTS:
    return _load(name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *TABLE, *EXPORTS})


class _Package(types.ModuleType):
  """Keeps `optim.muon` the function.

  The import of the file `muon.py` binds the package's attribute `muon` to
  the module, which would hide the function of the same name.
  """

  def __setattr__(self, name: str, value: Any) -> None:
    public = name in TABLE or name in EXPORTS
    if isinstance(value, types.ModuleType) and public:
      return
    super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
