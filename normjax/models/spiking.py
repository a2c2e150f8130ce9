"""Spiking networks: what they share, and an MLP.

The shapes are those of the code vwOvOwv/DeepEISNN. An image is shown at every
step, neurons integrate over steps, and logits are the mean over steps. Norms
and inhibition see the examples of all steps as one batch.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms, validate
from normjax.nn import checks, roles, synapses
from normjax.nn.spiking import LIF
from normjax.norms import modes
from normjax.types import Array


class SpikingLayer(nnx.Module):
  """Synapses, neurons, and on request a mean over 2x2 places."""

  def __init__(self, incoming: nnx.Module, cells: LIF, *, pool: bool = False):
    """Keeps the three.

    Args:
      incoming: examples to currents.
      cells: currents over time to spikes.
      pool: whether height and width are halved after the spikes.
    """
    self.incoming, self.cells, self.pool = incoming, cells, pool

  def __call__(
    self, x_t: Array, *, train: modes.Train = None, key: Array | None = None
  ) -> Array:
    """Spikes of all steps.

    Args:
      x_t: (t, b, …).
      train: of the norm.
      key: where given, synapses that can are first drawn for x_t.

    Returns:
      (t, b, …): 0 or 1, or means of four of them.
    """
    folded = x_t.reshape(-1, *x_t.shape[2:])
    if key is not None and hasattr(self.incoming, "initialize_on"):
      self.incoming.initialize_on(folded, key)
    currents = self.incoming(folded, train=train)
    spikes = self.cells(currents.reshape(*x_t.shape[:2], *currents.shape[1:]))
    self.sow(nnx.Intermediate, "spikes", spikes, capture_noop=True)
    return _halved(spikes) if self.pool else spikes


def _halved(x_tbyxc: Array) -> Array:
  """Means over 2x2 places; an odd last row or column is left out."""
  t, b, y, x, c = x_tbyxc.shape
  y, x = y // 2, x // 2
  blocks = x_tbyxc[:, :, : 2 * y, : 2 * x].reshape(t, b, y, 2, x, 2, c)
  return jnp.mean(blocks, axis=(3, 5))


class SpikingModel(nnx.Module):
  """What the models share; `layers` and `readout` are set by each."""

  end_layers: ClassVar[roles.Ends] = roles.Ends("layers/0", "readout")

  def _prepare(self, num_steps, neuron, compute_dtype, sizes, **dynamics):
    """Checks and keeps the shared options: (dynamics, neurons)."""
    validate.counts("spiking", num_steps=num_steps, **sizes)
    self.num_steps = num_steps
    made = synapses.resolve(
      dtype=checks.compute_dtype(compute_dtype), **dynamics
    )
    # Read by the training program, which then looks at the data.
    self.non_negative_inputs = made.non_negative_inputs
    return made, synapses.neuron(neuron)

  def __call__(
    self, inputs: Array, *, train: modes.Train = None, key: Array | None = None
  ) -> Array:
    """Class logits.

    Args:
      inputs: (b, …), any float dtype; >= 0 where inhibition is.
      train: of the norms, which see the examples of all steps together; see
        `NormLayer`.
      key: unused; nothing is drawn.

    Returns:
      (b, classes), float32.

    Raises:
      UserError: inputs of another shape.
    """
    del key
    return self._run(inputs, train, None)

  def initialize_on(self, inputs: Array, key: Array) -> None:
    """Draws inhibited layers for these inputs, each after those before it.

    Layers with a norm stay as they are.

    Args:
      inputs: (b, …), a first batch.
      key: of the draws.
    """
    self._run(inputs, False, key)

  def _run(self, inputs, train: modes.Train, key):
    x_t = self._arranged(inputs)
    x_t = jnp.broadcast_to(x_t, (self.num_steps, *x_t.shape))
    for index, layer in enumerate(self.layers):
      layer_key = None if key is None else jax.random.fold_in(key, index)
      x_t = layer(x_t, train=train, key=layer_key)
    x_bf = self._summary(x_t).reshape(self.num_steps * len(inputs), -1)
    if key is not None and hasattr(self.readout, "initialize_on"):
      key = jax.random.fold_in(key, len(self.layers))
      self.readout.initialize_on(x_bf, key)
    logits = self.readout(x_bf, train=train).astype(jnp.float32)
    return jnp.mean(logits.reshape(self.num_steps, len(inputs), -1), axis=0)

  def _arranged(self, inputs):
    return inputs

  def _summary(self, x_t):
    """What the readout sees of the last layer, flattened after this."""
    return x_t


def planned(plans: Mapping[int, Any], depth: int) -> Any:
  """The plan of that depth.

  Raises:
    UserError: there is none.
  """
  if depth not in plans:
    raise errors.UserError(
      f"depth={depth}; allowed: {', '.join(map(str, plans))}."
    )
  return plans[depth]


# Widths of the hidden layers, in fifths of the first.
MLP_PLANS = {
  2: (5,),
  4: (5, 5, 3),
  6: (5, 5, 3, 3, 3),
  8: (5, 5, 3, 3, 3, 1, 1),
  12: (5, 5, 5, 5, 3, 3, 3, 3, 1, 1, 1),
  16: (5, 5, 5, 5, 5, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1),
}


class SpikingMLP(SpikingModel):
  """Dense layers of spiking neurons, narrower with depth."""

  reads: ClassVar[frozenset[str]] = frozenset({"features", "images"})

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (64,),
    *,
    depth: int = 4,
    width: int = 500,
    num_steps: int = 4,
    dynamics: str = "plain",
    norm: norms.NormSpec = "batch_norm",
    neuron: Mapping[str, Any] | None = None,
    inhibition: Mapping[str, Any] | None = None,
    kernel_init: str = "uniform",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model.

    Args:
      num_classes: outputs.
      input_shape: of one example; flattened.
      depth: of `MLP_PLANS`, the readout included.
      width: of the first layers, a multiple of 5; the next have 3/5 of it,
        the last 1/5.
      num_steps: how often the input is shown.
      dynamics: "plain", or "excitatory_inhibitory" in the place of a norm.
      norm: between each dense layer and its neurons, if plain.
      neuron: options of `nn.spiking.LIF`.
      inhibition: ratio, replace_zeros and scale_gradient of
        `nn.excitatory_inhibitory.ExcitatoryInhibitory`.
      kernel_init: of plain layers: "uniform", "he_normal", "he_normal_out".
      compute_dtype: "float32" or "bfloat16", of plain layers; parameters,
        statistics, potentials and logits are float32 either way.
      rngs: stream "params".

    Raises:
      UserError: a size out of range, or an unknown name or option.
    """
    checks.check_input_shape(input_shape)
    self.input_shape = tuple(input_shape)
    shares = planned(MLP_PLANS, depth)
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
    if width % 5:
      raise errors.UserError(f"width={width} must be a multiple of 5.")
    layers, inputs = [], math.prod(input_shape)
    for share in shares:
      outputs = width * share // 5
      layers.append(SpikingLayer(made.dense(inputs, outputs, rngs), cells))
      inputs = outputs
    self.layers = nnx.List(layers)
    self.readout = made.readout(inputs, num_classes, rngs)

  def _arranged(self, inputs):
    checks.check_examples(inputs, self.input_shape, flattened=True)
    return inputs.reshape(len(inputs), -1)
