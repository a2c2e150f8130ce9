"""What the contract runs on: option variants and references, by name.

A norm's reference is the function of its name in a file `references*.py` here,
that of its backward pass the function `<name>_backward`. A norm that is in no
table of options is tested with its defaults.
"""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from normjax import norms

# Options that fit the few channels of tests, of norms whose defaults do not.
SMALL: Mapping[str, Mapping[str, Any]] = {
  "group_norm": {"num_groups": 2},
  "evonorm_s0": {"num_groups": 2},
  "evonorm_s1": {"num_groups": 2},
  "evonorm_s2": {"num_groups": 2},
  "bcn": {"num_groups": 2},
  "cn": {"num_groups": 2},
}


VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
  "layer_norm": (
    {},
    {
      "eps": 0.1,
      "use_bias": False,
      "impl": "reference",
      "scale_form": "magnitude_direction",
    },
    {"use_bias": False, "use_scale": False},
    {"eps": 0.1, "use_bias": False, "zero_centered": True},
    {"use_bias": False, "use_scale": False, "eps_placement": "outside"},
    {"statistics": "one_pass"},
  ),
  "rms_norm": (
    {},
    {"eps": 0.1, "use_scale": False},
    {"impl": "reference", "zero_centered": True},
    {
      "eps": 1e-3,
      "eps_placement": "outside",
      "partial": 0.5,
      "scale_form": "magnitude_direction",
    },
  ),
  "dyt": (
    {},
    {
      "alpha_init": 2.0,
      "use_bias": False,
      "function": "isru",
      "shift_init": 0.0,
    },
  ),
  "batch_norm": (
    {},
    {"eps": 0.1, "momentum": 0.3, "running_variance": "biased"},
  ),
  "crms_norm": ({}, {"eps": 0.1, "use_bias": True}),
  "l2_norm": ({}, {"eps": 0.1, "use_scale": True}),
  "seednorm": (
    {},
    {"num_heads": 4, "eps": 0.1, "dot_divisor": "head_features"},
  ),
  "gated_norm": (
    {},
    {"rank": 3, "gate_init": "one", "inner": "dyt"},
  ),
  # The contract counts from 5000: the defaults are in PowerNorm's warm-up and
  # after Unified Normalization's; for filtration its x is an outlier.
  "power_norm": (
    {},
    {"num_groups": 4, "warmup_steps": 10, "backward_momentum": 0.6},
  ),
  "unified_norm": (
    {},
    {"window": (6, 2), "warmup_steps": 10, "outlier_filtration": True},
  ),
  "group_norm": ({"num_groups": 2, "eps": 0.1},),
  "instance_norm": ({"eps": 0.1},),
  "frn": ({"eps": 0.1, "learned_eps": True},),
  "batch_renorm": (
    {"warmup_steps": 10, "r_max_steps": 6000, "d_max_steps": 6000},
  ),
  "evonorm_b0": (
    {"eps": 0.1, "momentum": 0.3, "running_variance": "unbiased"},
  ),
  "evonorm_s0": ({"num_groups": 2, "eps": 0.1},),
  "evonorm_s2": ({"num_groups": 2}, {"nonlinearity": False}),
  "switchable_norm": ({"eps": 0.1, "momentum": 0.3},),
  "iabn": ({"threshold": 0.5, "eps": 0.1, "momentum": 0.3},),
  "bcn": (
    {"num_groups": 2, "eps": 0.1},
    {"num_groups": 2, "estimated": True},
  ),
  "scenario_bn": ({"hidden_dim": 3}, {"hidden_dim": 3, "normalized": True}),
  "film": ({"hidden_dim": 3},),
  "adain": (
    {"eps": 0.1},
    {
      "style_weight": 0.6,
      "content_weight": 0.4,
      "eps": 1e-4,
      "eps_placement": "outside",
      "variance": "unbiased",
    },
  ),
  # The contract has no context; `test_adab2n` has.
  "adab2n": ({"kappa": 0.4, "eps": 0.1, "momentum": 0.7},),
  "cn": ({"num_groups": 2, "eps": 0.1, "use_affine": False},),
}


@functools.cache
def _references() -> Mapping[str, Callable[..., Any]]:
  """Public name to function, of all files `references*.py` beside this one."""
  found: dict[str, Callable[..., Any]] = {}
  for path in sorted(Path(__file__).parent.glob("references*.py")):
    module = importlib.import_module(f"tests.norms.{path.stem}")
    for name, value in vars(module).items():
      if name[0] != "_" and inspect.isfunction(value):
        assert name not in found, f"two references {name!r}"
        found[name] = value
  return found


def reference(name: str) -> Callable[..., Any]:
  """The float64 transcription of a norm."""
  found = _references().get(name)
  assert found, f"no function {name!r} in tests/norms/references*.py"
  return found


def backward(name: str) -> Callable[..., Any] | None:
  """That of its backward pass, if it has "grad_stats" or another gradient."""
  return _references().get(f"{name}_backward")


# Norms that are one to a layer around them: alike in what they hold (gains,
# running statistics) and read. The first stands for the others where only the
# layer is tested; a name in no family stands for itself.
FAMILIES: Mapping[str, tuple[str, ...]] = {
  "gains": (
    "layer_norm",
    "rms_norm",
    "crms_norm",
    "scale_norm",
    "dyt",
    "derf",
    "seednorm",
    "pre_affine",
    "film",
  ),
  "nothing": ("identity", "l2_norm", "adain"),
  "gains, of images": (
    "frn",
    "group_norm",
    "instance_norm",
    "evonorm_s0",
    "evonorm_s1",
    "evonorm_s2",
  ),
  "running statistics, of images": (
    "bcn",
    "switchable_norm",
    "evonorm_b0",
    "evonorm_b1",
    "evonorm_b2",
    "cn",
  ),
  "running statistics, and a condition": (
    "dsbn",
    "conditional_batch_norm",
    "scenario_bn",
  ),
}


def representatives() -> tuple[str, ...]:
  """One name of each family, and those that are in none."""
  others = {name for family in FAMILIES.values() for name in family[1:]}
  return tuple(name for name in norms.names() if name not in others)


def names_by_family() -> list[Any]:
  """`norms.names()` to parametrize: others than representatives are slow."""
  chosen = representatives()
  return [
    pytest.param(name, marks=() if name in chosen else pytest.mark.slow)
    for name in norms.names()
  ]


def make(name: str) -> norms.Norm:
  """The norm with its defaults, or with what fits few channels."""
  return norms.make(name, **SMALL.get(name, {}))


def images(norm: norms.Norm, x: Any) -> Any:
  """The same x (4, 3, c), or as images (2, 3, 2, c) where a norm needs them."""
  return x.reshape(2, 3, 2, -1) if norm.traits.spatial_only else x


@dataclasses.dataclass(frozen=True)
class Case:
  """A norm with options, its reference, and that of its backward pass.

  `make` makes the same norm again.
  """

  norm: norms.Norm
  make: Callable[[], norms.Norm]
  reference: Callable[..., Any]
  backward: Callable[..., Any] | None
  label: str

  def __str__(self) -> str:
    return self.label

  @property
  def name(self) -> str:
    """The norm's, by which tests are spread over workers."""
    return self.norm.name


def all_cases() -> list[Case]:
  """Every variant of every norm of the table."""
  return [
    Case(
      norm=norms.make(name, **options),
      make=functools.partial(norms.make, name, **options),
      reference=reference(name),
      backward=backward(name),
      label="-".join([name, *(f"{k}={v}" for k, v in options.items())]),
    )
    for name in norms.names()
    for options in VARIANTS.get(name, (SMALL.get(name, {}),))
  ]


def by_family() -> list[Any]:
  """`all_cases` to parametrize: but the first of each family is slow."""
  return _marked(all_cases())


def defaults_by_family() -> list[Any]:
  """`default_cases` to parametrize: but the first of each family is slow."""
  return _marked(default_cases())


def _marked(every: list[Case]) -> list[Any]:
  chosen = set(representatives())
  params = []
  for case in every:
    marks = () if case.norm.name in chosen else pytest.mark.slow
    params.append(pytest.param(case, marks=marks))
    chosen.discard(case.norm.name)
  return params


def default_cases() -> list[Case]:
  """Every norm of the table once, with its defaults where they fit."""
  return [
    Case(
      norm=make(name),
      make=functools.partial(make, name),
      reference=reference(name),
      backward=backward(name),
      label=name,
    )
    for name in norms.names()
  ]
