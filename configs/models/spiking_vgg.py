"""VGG of spiking neurons: vwOvOwv/DeepEISNN."""

import ml_collections

from normjax import configure


def get_config() -> ml_collections.ConfigDict:
  """The official code's; classes, input shape and norm come from elsewhere."""
  spiking_mlp = configure.load_module("configs/models/spiking_mlp.py")
  return ml_collections.ConfigDict(
    {
      "name": "spiking_vgg",
      "depth": 16,
      "width": 64,
      "num_steps": 4,
      # Or "excitatory_inhibitory": with norm.name="identity", images scaled
      # to "unit" and the optimizer ei_sgd.
      "dynamics": "plain",
      "kernel_init": "uniform",  # uniform, he_normal, he_normal_out
      **spiking_mlp.neuron_options(),
    }
  )
