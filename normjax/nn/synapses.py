"""What feeds a layer of spiking neurons: by name, with the same interface."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms, validate
from normjax.nn.conv import HE_NORMAL
from normjax.nn.conv_norm import ConvNorm, NormActivation
from normjax.nn.excitatory_inhibitory import ExcitatoryInhibitory
from normjax.nn.spiking import LIF
from normjax.norms import modes
from normjax.types import Array

KERNEL_INITS: dict[str, nnx.Initializer] = {
  # Of bound 1 / sqrt(fan_in): what PyTorch's layers start with.
  "uniform": nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
  # arXiv:1502.01852, equation 10, and its version for the backward pass.
  "he_normal": HE_NORMAL,
  "he_normal_out": nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
}


class DenseNorm(nnx.Module):
  """N(x W + b)."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    norm: norms.NormSpec,
    kernel_init: nnx.Initializer,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes both; the arguments are those of `ConvNorm`."""
    self.dense = nnx.Linear(
      inputs, outputs, kernel_init=kernel_init, dtype=dtype, rngs=rngs
    )
    self.norm = NormActivation(norm, outputs, activation=None, rngs=rngs)

  def __call__(self, x_bf: Array, *, train: modes.Train = None) -> Array:
    """Applies both."""
    return self.norm(self.dense(x_bf), train=train)


@dataclasses.dataclass(frozen=True)
class Plain:
  """Kernels of any sign and a norm."""

  norm: norms.Norm
  kernel_init: nnx.Initializer
  dtype: Any
  non_negative_inputs = False

  def dense(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    """A dense layer, (b, inputs) to (b, outputs)."""
    return DenseNorm(inputs, outputs, **vars(self), rngs=rngs)

  def conv(
    self,
    inputs: int,
    outputs: int,
    rngs: nnx.Rngs,
    *,
    kernel_size: int = 3,
    stride: int = 1,
  ) -> nnx.Module:
    """A convolution, padded by zeros; no bias beside the norm's."""
    return ConvNorm(
      inputs,
      outputs,
      kernel_size=kernel_size,
      stride=stride,
      activation=None,
      **vars(self),
      rngs=rngs,
    )

  def readout(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    """What gives logits: a dense layer without a norm."""
    return dataclasses.replace(self, norm=norms.resolve("identity")).dense(
      inputs, outputs, rngs
    )


@dataclasses.dataclass(frozen=True)
class ExcitationInhibition:
  """Layers of excitatory and inhibitory cells, without a norm."""

  options: Mapping[str, Any]
  non_negative_inputs = True

  def dense(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    """A dense layer, (b, inputs) to (b, outputs)."""
    return ExcitatoryInhibitory(inputs, outputs, **self.options, rngs=rngs)

  def conv(
    self,
    inputs: int,
    outputs: int,
    rngs: nnx.Rngs,
    *,
    kernel_size: int = 3,
    stride: int = 1,
  ) -> nnx.Module:
    """A convolution, padded by zeros."""
    return ExcitatoryInhibitory(
      inputs,
      outputs,
      kernel_size=kernel_size,
      stride=stride,
      **self.options,
      rngs=rngs,
    )

  def readout(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    """What gives logits: the balanced current of a dense layer."""
    return ExcitatoryInhibitory(
      inputs, outputs, readout=True, **self.options, rngs=rngs
    )


Dynamics = Plain | ExcitationInhibition
DYNAMICS = ("plain", "excitatory_inhibitory")
_INHIBITION = {"ratio": 4, "replace_zeros": True, "scale_gradient": True}


def resolve(
  dynamics: str,
  *,
  norm: norms.NormSpec,
  kernel_init: str,
  inhibition: Mapping[str, Any] | None,
  dtype: Any,
) -> Dynamics:
  """What makes the layers between neurons.

  Args:
    dynamics: "plain" or "excitatory_inhibitory".
    norm: of plain layers.
    kernel_init: of plain layers, of `KERNEL_INITS`.
    inhibition: options of `ExcitatoryInhibitory`: ratio, replace_zeros,
      scale_gradient.
    dtype: of the computation of plain layers.

  Raises:
    UserError: an unknown name or option, or a norm where none is used.
  """
  given = dict(inhibition or {})
  validate.choice("synapses", "dynamics", dynamics, DYNAMICS)
  validate.choice("synapses", "kernel_init", kernel_init, KERNEL_INITS)
  for name in given:
    validate.choice("synapses", "an option of inhibition", name, _INHIBITION)
  resolved = norms.resolve(norm)
  if dynamics == "plain":
    return Plain(resolved, KERNEL_INITS[kernel_init], dtype)
  if resolved.name != "identity":
    raise errors.UserError(
      f"norm={resolved.name!r}: dynamics='excitatory_inhibitory' takes the"
      " place of a norm; allowed: 'identity'."
    )
  return ExcitationInhibition(_INHIBITION | given)


def neuron(options: Mapping[str, Any] | None) -> LIF:
  """The neuron with these options, the others at their defaults.

  Raises:
    UserError: an unknown option, or one out of range.
  """
  given = dict(options or {})
  known = [field.name for field in dataclasses.fields(LIF)]
  for name in given:
    validate.choice("synapses", "an option of neuron", name, known)
  return LIF(**given)
