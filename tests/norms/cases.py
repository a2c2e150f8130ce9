"""What the contract runs on: option variants and references, by name.

A norm that is in neither table is tested with its defaults, against itself in
float64.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from normjax import norms
from tests.norms import references

VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
  "layer_norm": (
    {},
    {"eps": 0.1, "use_bias": False, "impl": "reference"},
    {"use_bias": False, "use_scale": False},
  ),
  "rms_norm": (
    {},
    {"eps": 0.1, "use_scale": False},
    {"impl": "reference"},
  ),
  "dyt": ({}, {"alpha_init": 2.0, "use_bias": False}),
  "batch_norm": (
    {},
    {"eps": 0.1, "momentum": 0.3, "running_variance": "biased"},
  ),
}

REFERENCES: Mapping[str, Callable[..., Any]] = {
  "layer_norm": references.layer_norm,
  "rms_norm": references.rms_norm,
  "dyt": references.dyt,
  "batch_norm": references.batch_norm,
  "identity": references.identity,
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A norm with options, and its reference where there is one."""

  norm: norms.Norm
  reference: Callable[..., Any] | None
  label: str

  def __str__(self) -> str:
    return self.label


def all_cases() -> list[Case]:
  """Every variant of every norm of the table."""
  return [
    Case(
      norm=norms.make(name, **options),
      reference=REFERENCES.get(name),
      label="-".join([name, *(f"{k}={v}" for k, v in options.items())]),
    )
    for name in norms.names()
    for options in VARIANTS.get(name, ({},))
  ]


def default_cases() -> list[Case]:
  """Every norm of the table once, with its defaults."""
  return [
    Case(norms.make(name), REFERENCES.get(name), name) for name in norms.names()
  ]
