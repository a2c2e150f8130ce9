"""Do excitatory and inhibitory cells make deep spiking networks trainable?

Claim: the code vwOvOwv/DeepEISNN trains deep spiking networks without any
normalization, where a network without it falls silent; its README has 87% to
92% on CIFAR-10 for VGG8 to ResNet-18, its baseline with batch norm is a config
without a number. Expected here, on 8x8 digits with 2, 4 and 8 layers:
batch_norm 97.8, 98.3, 98.0%; E-I 97.4, 98.3, 96.8%; no norm at chance (10%)
from 4 layers on if it starts as PyTorch's layers do, from 8 layers on with
He-normal kernels.
Command: normjax sweep configs/sweeps/excitatory_inhibitory.py
Time: not measured since each seed is tuned; `--dry_run` says what runs.

Width 200 where the official MLPs have 500, 12 epochs, T = 4, one optimizer for
all: the official SGD, which constrains E-I weights alone. Each method tries
three learning rates per seed; the official 1e-3 is for 300 epochs.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

DEPTHS = (2, 4, 8)
METHODS = (
  {"norm.name": "batch_norm"},
  {"norm.name": "identity", "model.dynamics": "excitatory_inhibitory"},
  {"norm.name": "identity"},
  {"norm.name": "identity", "model.kernel_init": "he_normal"},
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  config = configure.load(f"configs/default.py{':' if arg else ''}{arg}")
  changes = {
    "model.name": "spiking_mlp",
    "model.width": 200,
    "norm.name": "batch_norm",
    "optimizer.name": "ei_sgd",
    "optimizer.learning_rate": 0.1,
    "data.name": "digits",
    "data.scaling": "unit",  # Dale's law wants inputs that are not negative
    "train.batch_size": 128,
    "train.gradient_clip": 0.0,
    "evaluate.num_batches": 0,
    "evaluate.batch_size": 180,
    "checkpoint.every_steps": 0,
  }
  if not arg:
    # 12 epochs of 1,438 images.
    changes |= {"train.num_steps": 135, "evaluate.every_steps": 135}
  return configure.override(config, changes)


def sweep() -> space.Sweep:
  """Four methods at three depths, tuned for each of five seeds."""
  return space.Sweep(
    methods=[
      {"model.depth": depth} | method for depth in DEPTHS for method in METHODS
    ],
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (1 / 3, 1.0, 3.0)}, relative=True
    ),
    metric="eval/accuracy",
    mode="max",
  )
