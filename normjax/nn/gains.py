"""Activations that keep a variance of one, for networks without norms."""

import functools

from normjax import errors
from normjax.nn import activation as activations
from normjax.nn.activation import Activation
from normjax.registry import near_misses
from normjax.types import Array

# 1 / std(a(z)) for z ~ N(0, 1): the constants of deepmind-research
# nfnets/base.py, estimated from samples, and the integrals.
GAINS: dict[str, dict[str, float]] = {
  "relu": {"official": 1.7139588594436646, "exact": 1.7128585504496627},
  # The approximation by tanh, as in `jax.nn.gelu`.
  "gelu": {"official": 1.7015043497085571, "exact": 1.7009165616954502},
  # With erf. The authors have none: timm takes the constant of the above.
  "gelu_exact": {"official": 1.7015043497085571, "exact": 1.700926243363333},
  "silu": {"official": 1.7881293296813965, "exact": 1.7871872221004417},
  "tanh": {"official": 1.5939117670059204, "exact": 1.5925374197228315},
  "selu": {"official": 1.0008515119552612, "exact": 1.0},
  "elu": {"official": 1.2716004848480225, "exact": 1.2708434178501964},
  "celu": {"official": 1.270926833152771, "exact": 1.2708434178501964},
  "leaky_relu": {"official": 1.70590341091156, "exact": 1.7048316271773367},
  "relu6": {"official": 1.7131484746932983, "exact": 1.7128585549723951},
  "sigmoid": {"official": 4.803835391998291, "exact": 4.801313372039962},
  "log_sigmoid": {
    "official": 1.9193484783172607,
    "exact": 1.9191259801076563,
  },
  "softplus": {"official": 1.9203323125839233, "exact": 1.9191259801076563},
  "soft_sign": {"official": 2.338853120803833, "exact": 2.3375333631085398},
}
KINDS = ("official", "exact")


@functools.cache
def resolve(name: str, kind: str = "official") -> Activation:
  """An activation whose variance is 1 where x is standard normal.

      gain a(x),  gain = 1 / sqrt(var a(z)),  z ~ N(0, 1)

  arXiv:2101.08692, section 4.1. For relu that is sqrt(2 / (1 - 1 / pi)). The
  variance of a convolution of it is 1 again, where each filter has mean 0 and
  square sum 1: scaled weight standardization.

  Args:
    name: of `nn.activation`, with a gain in `GAINS`.
    kind: "official", the constants of the authors' code, which their networks
      were trained with; or "exact". They differ by less than 1e-3.

  Returns:
    The function, in the dtype of its input; the same one for the same names.

  Raises:
    UserError: an activation without a gain, or an unknown kind.
  """
  if name not in GAINS:
    raise errors.UserError(
      f"activation={name!r} has no gain for networks without norms."
      f"{near_misses(name, GAINS)} Allowed: {', '.join(GAINS)}."
    )
  if kind not in KINDS:
    raise errors.UserError(
      f"activation_gain={kind!r} is unknown. Allowed: {', '.join(KINDS)}."
    )
  activate, gain = activations.resolve(name), GAINS[name][kind]

  def gained(x: Array) -> Array:
    return activate(x) * gain

  gained.__qualname__ = f"{name} with its {kind} gain"
  return gained
