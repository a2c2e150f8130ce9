"""What the official code and ours are given: a classifier of two layers."""

import numpy as np

NUM_STEPS = 3
RATE, EPS = 0.01, 1e-3
# Leaves in the order of the walk, by their paths here; names of the official
# model's parameters, of which "bias" is not decayed.
PATHS = {
  "layers.0.bias": "layers/0/bias",
  "layers.0.weight": "layers/0/kernel",
  "head.bias": "head/bias",
  "head.weight": "head/kernel",
}
SHAPES = {
  "layers.0.bias": (5,),
  "layers.0.weight": (5, 3),
  "head.bias": (4,),
  "head.weight": (4, 5),
}


def params():
  """Weights by the official names, as (out, in)."""
  draw = np.random.default_rng(0)
  return {name: 0.5 * draw.normal(size=s) for name, s in SHAPES.items()}


def batch():
  """Inputs (8, 3), and their classes."""
  return np.random.default_rng(1).normal(size=(8, 3)), np.arange(8) % 4
