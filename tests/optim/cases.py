"""What the contract runs on: options, references and tolerances, by name.

An optimizer that is in no table is run with its defaults and a learning rate
of 0.01, and has no reference here.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import optax
import pytest

from normjax import optim
from tests.optim import (
  references,
  references_8bit,
  references_baselines,
  references_clipped,
  references_multi_norm,
  references_orthonormal,
  references_projected,
  references_scaled,
)

VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
  "adamw": ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3}),
  "muon": (
    {"fallback_learning_rate": 3e-3},
    {"scaling": "moonlight", "nesterov": False, "weight_decay": 0.3},
  ),
  "sinkgd": ({}, {"num_iters": 2, "first": "reduction", "weight_decay": 0.3}),
  "adamp": (
    {"weight_decay": 0.3},
    {"weight_decay": 0.3, "nesterov": True, "delta": 0.5, "wd_ratio": 0.3},
  ),
  "lion": ({}, {"b1": 0.5, "b2": 0.8, "weight_decay": 0.3}),
  "lamb": ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3}),
  "adafactor": (
    {},
    {
      "momentum": 0.9,
      "clipping_threshold": 0.5,
      "multiply_by_parameter_scale": False,
      "weight_decay": 0.3,
    },
  ),
  # A norm of the whole tree is in test_normalized_gd.
  "normalized_gd": (
    {"per": "leaf"},
    {"per": "leaf", "eps": 0.5, "weight_decay": 0.3},
  ),
  "nap_adamw": ({}, {"per": "unit", "every": 5, "weight_decay": 0.3}),
  # The projection is in test_sign_constrained.
  "ei_sgd": ({}, {"momentum": 0.5, "weight_decay": 0.3}),
  "sgdp": (
    {"momentum": 0.9, "weight_decay": 0.03, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.03},
    {"momentum": 0.5, "weight_decay": 0.3, "official_aliasing": True},
  ),
  "sgd": (
    {},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.3},
    {"weight_decay": 0.3, "decoupled": True},
  ),
  "nfnet_sgd": (
    {},
    # A bound that some units meet and others don't.
    {"clipping": 1.0, "eps": 1.0, "weight_decay": 0.3, "nesterov": False},
    {"clipping": 1.0, "momentum": 0.5, "exempt": None, "weight_decay": 0.3},
  ),
  "swan": (
    {"preset": "inexact"},
    {"preset": "uncentered", "weight_decay": 0.3},
    {"preset": "textbook"},
    {"preset": "diagonal"},
  ),
  "conda": (
    {},
    {"update_proj_gap": 3, "scale": 0.25, "b2": 0.99, "weight_decay": 0.3},
  ),
  "galore": (
    {},
    {"rank": 3, "update_proj_gap": 3, "scale": 0.5, "weight_decay": 0.3},
  ),
  "fira": (
    {},
    {"rank": 3, "update_proj_gap": 3, "scale": 0.5, "weight_decay": 0.3},
    {"rank": 2, "update_proj_gap": 5, "residual": "orthogonal"},
  ),
  "adam_8bit": ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3}),
  "adamw_8bit": ({},),
  "momentum_8bit": ({}, {"momentum": 0.5, "weight_decay": 0.3}),
  "lion_8bit": ({}, {"b1": 0.5, "b2": 0.9, "weight_decay": 0.3}),
  "normuon": (
    {"fallback_learning_rate": 3e-3},
    {"scaling": "rms", "nesterov": False, "b2": 0.5, "weight_decay": 0.3},
  ),
  "apollo": (
    {},
    {"rank": 3, "update_proj_gap": 3, "scale": 0.5, "weight_decay": 0.3},
    {"rank": 2, "scale": 2.0, "scale_front": True, "seed": 7},
    {"rank": 2, "limit_growth": False, "scale_type": "tensor"},
  ),
  "apollo_mini": (
    {},
    {"update_proj_gap": 5, "scale_front": True, "weight_decay": 0.3},
  ),
  "racs": (
    {},
    {"beta": 0.5, "num_iters": 2, "gamma": 1.1, "weight_decay": 0.3},
  ),
  "dion": (
    {},
    {"rank_percent": 40, "momentum": 0.8, "weight_decay": 0.3, "seed": 7},
  ),
}

REFERENCES: Mapping[str, Callable[..., Any]] = {
  "adamw": references.adamw,
  "muon": references.muon,
  "sinkgd": references.sinkgd,
  "adamp": references.adamp,
  "lion": references_baselines.lion,
  "lamb": references_baselines.lamb,
  "adafactor": references_baselines.adafactor,
  "normalized_gd": references_baselines.normalized_gd,
  "nap_adamw": references_baselines.nap_adamw,
  "ei_sgd": references_baselines.ei_sgd,
  "sgdp": references.sgdp,
  "sgd": references_baselines.sgd,
  "nfnet_sgd": references_clipped.nfnet_sgd,
  "swan": references_multi_norm.swan,
  "conda": references_projected.conda,
  "galore": references_projected.galore,
  "fira": references_projected.fira,
  "adam_8bit": references_8bit.adam,
  "adamw_8bit": references_8bit.adamw,
  "momentum_8bit": references_8bit.momentum,
  "lion_8bit": references_8bit.lion,
  "normuon": references_orthonormal.normuon,
  "apollo": references_projected.apollo,
  "apollo_mini": references_projected.apollo_mini,
  "racs": references_scaled.racs,
  "dion": references_orthonormal.dion,
}

_DECAYING = optax.linear_schedule(0.01, 0.0, 4000)

# What makes it settle within 0.03 of a parabola's minimum: a step of fixed
# size must be below that.
CONVERGENCE: Mapping[str, Mapping[str, Any]] = {
  "sinkgd": {"matrix_scale": 0.5},
  # Centring takes away the mean of the gradient.
  "swan": {"matrix_scale": 0.5, "preset": "uncentered"},
  "lion": {"learning_rate": _DECAYING},
  "lamb": {"learning_rate": _DECAYING},
  "adafactor": {"learning_rate": _DECAYING},
  "normalized_gd": {"learning_rate": _DECAYING},
  # The parabolas' matrices start at zero and would stay there.
  "nap_adamw": {"dims": lambda params: jax.tree.map(lambda _: None, params)},
  "racs": {"matrix_scale": 0.5},
  # Weights grow by a percent of themselves a step, from a norm of 1e-3.
  "nfnet_sgd": {"learning_rate": 0.1},
}

# Bytes of the contract's small tree that no `mu_dtype` or `nu_dtype` narrows.
FIXED_BYTES: Mapping[str, int] = {
  # Gram matrix and basis in float32, of sides (8, 8), (8, 24) and (1, 1).
  "soap": 4 * 2 * (64 + 64 + 64 + 576 + 1 + 1),
  # The norms of three matrices in float32.
  "nap_adamw": 4 * 3,
}

# What shares the code that composes an alias: decay, rate, mask, routing,
# dtypes. The first of each stands for the others where only that code is
# tested; a name in no family stands for itself. A method that composes itself
# (soap's rate waits for its bases, nap_adamw and ei_sgd wrap the whole step)
# is in none.
FAMILIES: Mapping[str, tuple[str, ...]] = {
  "compose.descend with decay": (
    "adamw",
    "lion",
    "adafactor",
    "normalized_gd",
  ),
  "decay before the direction": ("sgd", "lamb", "nfnet_sgd"),
  "decay in the direction": ("adamp", "sgdp"),
  "routed.with_adamw": ("muon", "normuon", "swan", "sinkgd", "racs", "dion"),
  "transformers_adam.with_fallback": (
    "galore",
    "conda",
    "fira",
    "apollo",
    "apollo_mini",
  ),
  "8 bits": ("adam_8bit", "adamw_8bit", "momentum_8bit", "lion_8bit"),
}

# What keeps state of other shapes than the parameters' whole on every device.
KEEPS_WHOLE = ("soap",)

# Relative error of one step in float32, u = 2^-24 = 6e-8.
ROUNDING: Mapping[str, float] = {
  # 1 - 0.999^t at t = 1: u / 1e-3, halved by the root.
  "adamw": 4e-5,
  # Five steps of slope 3.4445 at 0 amplify an error of sums of 40 terms:
  # 3.4445^5 * 40 u.
  "muon": 1.2e-3,
  # Ten divisions by norms of up to 24 terms, and the fallback's Adam.
  "sinkgd": 4e-5,
  # As Adam but for the bias correction; sums of 120 terms in the projection.
  "adamp": 1e-5,
  # A sign, exact unless the sum is rounded to the other side of 0.
  "lion": 2e-7,
  # Adam's, and two norms of up to 120 terms.
  "lamb": 5e-5,
  # A power, a root, and two means of up to 120 terms: 30 u.
  "adafactor": 2e-6,
  # A norm of up to 120 terms, and two quotients.
  "normalized_gd": 1e-6,
  # Adam's. The projection rounds the weights, not the step.
  "nap_adamw": 4e-5,
  # Sums of twelve terms.
  "ei_sgd": 1e-6,
  # Sums of 120 terms in the projection, over twelve steps of momentum.
  "sgdp": 1e-5,
  # Sums of twelve terms.
  "sgd": 1e-6,
  # Two norms of up to 24 terms and their quotient, summed over twelve steps.
  "nfnet_sgd": 2e-6,
  # The map w -> (0.8 (3 - w))^2 w of a step has slopes of up to 1.92 once a
  # singular value has grown: 1.92^10 * 30 u.
  "swan": 1.3e-3,
  # An SVD of sides up to 24 turns the basis by 24 u over the gap of two
  # singular values, about 0.1; a coordinate of 0.1 of the largest then
  # changes by ten times that.
  "conda": 1.5e-4,
  "galore": 1.5e-4,
  "fira": 1.5e-4,
  # As AdamP without the projection.
  "adam_8bit": 1e-5,
  "adamw_8bit": 1e-5,
  # Sums of twelve terms.
  "momentum_8bit": 1e-6,
  # A sign: exact, but for rounding of w.
  "lion_8bit": 1e-6,
  # As Muon; the division by v and the norms are smooth and of slope 1.
  "normuon": 1.2e-3,
  # 1 - 0.999^t at t = 1 as for Adam, in sums of 24 terms: their cancellation
  # in P g amplifies u by 24 where a coordinate is 0.04 of the terms.
  "apollo": 4e-5,
  "apollo_mini": 4e-5,
  # Ten means of up to 24 positive terms, and the fallback's Adam.
  "racs": 4e-5,
  # A QR of sums of 24 terms, where the reference's shortest column keeps 0.021
  # of its length: 24 u / 0.021.
  "dion": 7e-5,
}


@dataclasses.dataclass(frozen=True)
class Case:
  """An optimizer with options."""

  name: str
  options: Mapping[str, Any]
  reference: Callable[..., Any] | None
  convergence: Mapping[str, Any]
  rounding: float
  fixed_bytes: int
  keeps_whole: bool

  def __str__(self) -> str:
    return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])

  def make(self, learning_rate: Any = 0.01, **options: Any) -> Any:
    """The transform; `options` override the case's."""
    options = {**self.options, **options}
    return optim.make(self.name, learning_rate=learning_rate, **options)

  @property
  def parameters(self) -> Mapping[str, inspect.Parameter]:
    """The factory's options."""
    return inspect.signature(optim.REGISTRY.get(self.name)).parameters

  def scalars(self) -> dict[str, float]:
    """The value of every option that is a float, learning rate apart."""
    defaults = {
      name: parameter.default for name, parameter in self.parameters.items()
    }
    values = {**defaults, **self.options}
    return {k: v for k, v in values.items() if isinstance(v, float)}


def case(name: str, options: Mapping[str, Any] = MappingProxyType({})) -> Case:
  """An optimizer of the table with these options."""
  return Case(
    name=name,
    options=options,
    reference=REFERENCES.get(name),
    convergence=CONVERGENCE.get(name, {}),
    rounding=ROUNDING.get(name, 0.0),
    fixed_bytes=FIXED_BYTES.get(name, 0),
    keeps_whole=name in KEEPS_WHOLE,
  )


def all_cases() -> list[Case]:
  """Every variant of every optimizer of the table."""
  return [
    case(name, options)
    for name in optim.names()
    for options in VARIANTS.get(name, ({},))
  ]


def first_cases() -> list[Case]:
  """The first variant of every optimizer of the table."""
  return [case(name, VARIANTS.get(name, ({},))[0]) for name in optim.names()]


def representatives() -> list[Case]:
  """One optimizer of each family, and every name that is in no family.

  For what does not depend on the method's own arithmetic, but only on the code
  that a family shares. A new optimizer is in no family, so it is tested in
  full.
  """
  others = {name for names in FAMILIES.values() for name in names[1:]}
  return [case for case in first_cases() if case.name not in others]


def by_family() -> list[Any]:
  """`first_cases` to parametrize: others than representatives are slow.

  `make test` runs the representatives, `make test-all` every name:

      @pytest.mark.parametrize("case", cases.by_family(), ids=str)
  """
  chosen = {case.name for case in representatives()}
  return [
    pytest.param(case, marks=() if case.name in chosen else pytest.mark.slow)
    for case in first_cases()
  ]
