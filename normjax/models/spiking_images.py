"""Spiking networks of convolutions: VGG and the spike-element-wise ResNet."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import norms
from normjax.models.residual_blocks import stages
from normjax.models.spiking import SpikingLayer, SpikingModel, planned
from normjax.nn import checks, synapses
from normjax.nn.spiking import LIF
from normjax.norms import modes
from normjax.types import Array


class SpikeElementWiseBlock(nnx.Module):
  """x + F(x), added after the spikes of F: arXiv:2102.04159.

  Where shapes differ x goes through a 1x1 convolution and neurons of its own.
  The sum counts spikes: it may be above 1.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    stride: int,
    dynamics: synapses.Dynamics,
    cells: LIF,
    rngs: nnx.Rngs,
  ):
    """Makes two 3x3 convolutions, and the 1x1 where it is needed."""
    self.conv_1 = SpikingLayer(
      dynamics.conv(inputs, outputs, rngs, stride=stride), cells
    )
    self.conv_2 = SpikingLayer(dynamics.conv(outputs, outputs, rngs), cells)
    # No norm and no neurons on a stream that keeps its shape.
    self.shortcut = nnx.List(
      [
        SpikingLayer(
          dynamics.conv(inputs, outputs, rngs, kernel_size=1, stride=stride),
          cells,
        )
      ]
      if stride != 1 or inputs != outputs
      else []
    )

  def __call__(
    self, x_t: Array, *, train: modes.Train = None, key: Array | None = None
  ) -> Array:
    """Counts of spikes of all steps; arguments as of `SpikingLayer`."""
    keys = [None] * 3 if key is None else jax.random.split(key, 3)
    h_t = self.conv_1(x_t, train=train, key=keys[0])
    h_t = self.conv_2(h_t, train=train, key=keys[1])
    for shortcut in self.shortcut:
      x_t = shortcut(x_t, train=train, key=keys[2])
    return h_t + x_t


# Channels of the convolutions before each pooling, in units of the first's.
VGG_PLANS = {
  8: ((1,), (2,), (4,), (8,), (8,)),
  11: ((1,), (2,), (4, 4), (8, 8), (8, 8)),
  16: ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8)),
  19: ((1, 1), (2, 2), (4, 4, 4, 4), (8, 8, 8, 8), (8, 8, 8, 8)),
}


class SpikingVGG(SpikingModel):
  """3x3 convolutions of spiking neurons, means over 2x2 places between."""

  reads: ClassVar[frozenset[str]] = frozenset({"images"})

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    depth: int = 16,
    width: int = 64,
    num_steps: int = 4,
    dynamics: str = "plain",
    norm: norms.NormSpec = "batch_norm",
    neuron: Mapping[str, Any] | None = None,
    inhibition: Mapping[str, Any] | None = None,
    kernel_init: str = "uniform",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model; what is not here is as in `SpikingMLP`.

    Args:
      num_classes: outputs of the one dense layer at the end.
      input_shape: (height, width, channels) of one image. Of images below
        32x32 the last poolings, which would leave nothing, are left out.
      depth: of `VGG_PLANS`.
      width: channels of the first convolution, at most doubled at each stage.
      num_steps: how often the image is shown.
      dynamics: "plain", or "excitatory_inhibitory".
      norm: between each convolution and its neurons, if plain.
      neuron: options of the neurons.
      inhibition: options of inhibited layers.
      kernel_init: of plain layers.
      compute_dtype: of plain layers.
      rngs: stream "params".

    Raises:
      UserError: a size out of range, or an unknown name or option.
    """
    checks.check_image_shape(input_shape)
    self.input_shape = tuple(input_shape)
    plan = planned(VGG_PLANS, depth)
    made, cells = self._prepare(
      num_steps,
      neuron,
      compute_dtype,
      {"num_classes": num_classes, "width": width},
      dynamics=dynamics,
      norm=norm,
      inhibition=inhibition,
      kernel_init=kernel_init,
    )
    y, x, inputs = input_shape
    layers = []
    for stage in plan:
      fits = min(y, x) > 1
      for index, share in enumerate(stage):
        pool = fits and index == len(stage) - 1
        conv = made.conv(inputs, width * share, rngs)
        layers.append(SpikingLayer(conv, cells, pool=pool))
        inputs = width * share
      y, x = (y // 2, x // 2) if fits else (y, x)
    self.layers = nnx.List(layers)
    self.readout = made.readout(y * x * inputs, num_classes, rngs)

  def _arranged(self, inputs):
    checks.check_examples(inputs, self.input_shape)
    return inputs


SEW_PLANS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class SEWResNet(SpikingModel):
  """The spike-element-wise ResNet: Fang et al. 2021, arXiv:2102.04159.

  For small images, as in DeepEISNN: a 3x3 convolution without stride or
  pooling first. Residuals are added after the spikes.
  """

  reads: ClassVar[frozenset[str]] = frozenset({"images"})

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    depth: int = 18,
    width: int = 64,
    num_steps: int = 4,
    dynamics: str = "plain",
    norm: norms.NormSpec = "batch_norm",
    neuron: Mapping[str, Any] | None = None,
    inhibition: Mapping[str, Any] | None = None,
    kernel_init: str = "he_normal_out",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model; what is not here is as in `SpikingMLP`.

    Args:
      num_classes: outputs of the one dense layer at the end.
      input_shape: (height, width, channels) of one image.
      depth: 18 or 34, of basic blocks; 10 has one block a stage.
      width: channels of the first stage, doubled at each.
      num_steps: how often the image is shown.
      dynamics: "plain", or "excitatory_inhibitory".
      norm: between each convolution and its neurons, if plain.
      neuron: options of the neurons.
      inhibition: options of inhibited layers.
      kernel_init: of plain layers.
      compute_dtype: of plain layers.
      rngs: stream "params".

    Raises:
      UserError: a size out of range, or an unknown name or option.
    """
    checks.check_image_shape(input_shape)
    counts = planned(SEW_PLANS, depth)
    made, cells = self._prepare(
      num_steps,
      neuron,
      compute_dtype,
      {"num_classes": num_classes, "width": width},
      dynamics=dynamics,
      norm=norm,
      inhibition=inhibition,
      kernel_init=kernel_init,
    )
    layers: list[nnx.Module] = [
      SpikingLayer(made.conv(input_shape[-1], width, rngs), cells)
    ]
    inputs = width
    for outputs, stride in stages(width, counts):
      layers.append(
        SpikeElementWiseBlock(inputs, outputs, stride, made, cells, rngs)
      )
      inputs = outputs
    self.layers = nnx.List(layers)
    self.readout = made.readout(inputs, num_classes, rngs)

  def _summary(self, x_t):
    return jnp.mean(x_t, axis=(2, 3))
