"""Convolutions and activations that keep a variance of one between them.

Scaled weight standardization and gained activations, arXiv:2101.08692, section
4, as a network's options say. The defaults are those of
deepmind-research/nfnets; the others are those of timm (Apache-2.0,
timm/models/nfnet.py and timm/layers/std_conv.py), whose weights ask for them.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.nn import activation as activations
from normjax.nn import checks, gains
from normjax.nn.activation import Activation
from normjax.nn.conv import Conv
from normjax.norms.weights.standardization import SCALED_EPS
from normjax.types import Array

# Options of the networks: the standardization, by how eps enters, with its own
# eps; what is zero around an image; and where the gain of the activations is.
STANDARDIZATIONS = SCALED_EPS
PADDINGS = ("same", "half")
GAINS_IN = ("activations", "kernels")


@dataclasses.dataclass(frozen=True)
class Convolutions:
  """What all convolutions of a network have in common.

  Attributes:
    standardization: of `STANDARDIZATIONS`.
    eps: of the standardization.
    factor: of all kernels: the gain of the activations, where they have none.
    padding: of `PADDINGS`; see `nn.conv.Conv`.
    dtype: of the computation.
  """

  standardization: str = "floor"
  eps: float = STANDARDIZATIONS["floor"]
  factor: float = 1.0
  padding: str = "same"
  dtype: Any = jnp.float32

  def conv(
    self,
    inputs: int,
    outputs: int,
    size: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    use_bias: bool = True,
    rngs: nnx.Rngs,
  ) -> Conv:
    """A convolution with scaled weight standardization, gain and bias."""
    return Conv(
      inputs,
      outputs,
      kernel_size=size,
      stride=stride,
      groups=groups,
      use_bias=use_bias,
      padding=self.padding,
      kernel_init=nnx.initializers.variance_scaling(1.0, "fan_in", "normal"),
      weight_norm={
        "name": "scaled_weight_standardization",
        "variant": self.standardization,
        "eps": self.eps,
        "factor": self.factor,
      },
      dtype=self.dtype,
      rngs=rngs,
    )


def max_pool(x_byxc: Array, padding: str) -> Array:
  """3 x 3 maxima of stride 2, with a padding of `PADDINGS`."""
  around = {"same": "SAME", "half": ((1, 1), (1, 1))}[padding]
  return nnx.max_pool(x_byxc, (3, 3), strides=(2, 2), padding=around)


def resolve(
  owner: str,
  *,
  activation: str,
  activation_gain: str,
  activation_gain_in: str,
  weight_standardization: str,
  weight_standardization_eps: float | None,
  padding: str,
  compute_dtype: str,
) -> tuple[Activation, Convolutions]:
  """The activations and the convolutions that a network's options ask for.

  Args:
    owner: the network, for messages.
    activation: one with a gain, of `nn.gains`.
    activation_gain: of `gains.KINDS`.
    activation_gain_in: of `GAINS_IN`.
    weight_standardization: of `STANDARDIZATIONS`.
    weight_standardization_eps: None: the standardization's own.
    padding: of `PADDINGS`.
    compute_dtype: "float32" or "bfloat16".

  Raises:
    UserError: an option out of range.
  """
  validate.choice(
    owner, "weight_standardization", weight_standardization, STANDARDIZATIONS
  )
  validate.choice(owner, "padding", padding, PADDINGS)
  validate.choice(owner, "activation_gain_in", activation_gain_in, GAINS_IN)
  eps = weight_standardization_eps
  if eps is None:
    eps = STANDARDIZATIONS[weight_standardization]
  validate.positive(owner, weight_standardization_eps=eps)
  activate, factor = gains.resolve(activation, activation_gain), 1.0
  if activation_gain_in == "kernels":
    factor = gains.GAINS[activation][activation_gain]
    activate = activations.resolve(activation)
  return activate, Convolutions(
    weight_standardization,
    eps,
    factor,
    padding,
    checks.compute_dtype(compute_dtype),
  )


def known_activations() -> Iterator[tuple[str, str, Activation]]:
  """(name, where its official gain is, function) of what `resolve` makes."""
  for name in gains.GAINS:
    yield name, "activations", gains.resolve(name, "official")
    yield name, "kernels", activations.resolve(name)
