"""Dense layers of spiking neurons: vwOvOwv/DeepEISNN."""

from typing import Any

import ml_collections


def neuron_options() -> dict[str, Any]:
  """What all spiking networks have: their neurons, and inhibition."""
  return {
    "neuron": {
      "tau": 2.0,
      "decay_input": False,
      "threshold": 1.0,
      "reset": "subtract",  # or zero
      "detach_reset": True,
      "surrogate": "sigmoid",  # or arctan
      "surrogate_alpha": 4.0,
      "graded": False,
    },
    "inhibition": {
      "ratio": 4,
      "replace_zeros": True,
      "scale_gradient": True,
    },
  }


def get_config() -> ml_collections.ConfigDict:
  """The official code's; classes, input shape and norm come from elsewhere."""
  return ml_collections.ConfigDict(
    {
      "name": "spiking_mlp",
      "depth": 4,
      "width": 500,
      "num_steps": 4,
      # Or "excitatory_inhibitory": with norm.name="identity", images scaled
      # to "unit" and the optimizer ei_sgd.
      "dynamics": "plain",
      "kernel_init": "uniform",  # uniform, he_normal, he_normal_out
      **neuron_options(),
    }
  )
