"""Records what SLTrain's official layer and ReLoRA's do, in float64.

    SLTRAIN=CHECKOUT RELORA=CHECKOUT python tests/nn/linear/official/record.py

To be run by hand, by an interpreter with torch; it needs neither jax nor
normjax. The first is a checkout of github.com/andyjm3/SLTrain whose extension
is built (`python setup.py build_ext --inplace` in `sparse-lora`), the second of
github.com/Guitaricet/relora. Both are Apache-2.0; only arrays are kept.
"""

import importlib.util
import math
import os
import pathlib
import sys
import types

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
IN, OUT, RANK, RATIO, ALPHA = 7, 5, 2, 0.3, 3


def load(path, name):
  """A file of a checkout as a module."""
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def gradients(layer, x, dy, names):
  """Output, and the gradients of the input and of what is named."""
  x = x.clone().requires_grad_()
  y = layer(x)
  y.backward(dy)
  found = {"y": y, "dx": x.grad}
  return found | {f"d{name}": getattr(layer, name).grad for name in names}


def sltrain(x, dy):
  """The layer, with B away from its zero."""
  checkout = pathlib.Path(os.environ["SLTRAIN"])
  sys.path.insert(0, str(checkout / "sparse-lora"))
  module = load(checkout / "splora" / "splora_linear.py", "splora_linear")
  layer = module.SpLoRaLinear(
    IN, OUT, RANK, RATIO, lora_alpha=ALPHA, dtype=torch.float64
  )
  with torch.no_grad():
    layer.lora_B.normal_()
  names = "lora_A", "lora_B", "sparse_value", "bias"
  held = {name: getattr(layer, name) for name in (*names, "sparse_index")}
  return held | gradients(layer, x, dy, names)


def relora(x, dy):
  """The layer before and after a merge, and how states are pruned."""
  checkout = pathlib.Path(os.environ["RELORA"]) / "peft_pretraining"
  for absent in ("bitsandbytes", "bitsandbytes.functional", "loguru"):
    stub = types.ModuleType(absent)
    stub.logger = stub.functional = None
    sys.modules.setdefault(absent, stub)
  module = load(checkout / "relora.py", "relora")
  layer = module.ReLoRaLinear(
    IN,
    OUT,
    RANK,
    lora_alpha=ALPHA,
    lora_dropout=0.0,
    bias=False,
    quantize=None,
    weight_data=torch.randn(OUT, IN, dtype=torch.float64),
  ).double()
  with torch.no_grad():
    layer.lora_B.weight.normal_()
  held = {
    "weight": layer.weight.clone(),
    "lora_A": layer.lora_A.weight.clone(),
    "lora_B": layer.lora_B.weight.clone(),
  }
  held |= gradients(layer, x, dy, ())
  held["dlora_A"] = layer.lora_A.weight.grad
  held["dlora_B"] = layer.lora_B.weight.grad
  layer.merge_and_reinit()
  held["merged"] = layer.weight
  held["largest_A"] = layer.lora_A.weight.abs().max() * math.sqrt(IN)
  held["merged_B"] = layer.lora_B.weight
  return held


def main():
  """Writes a file per layer."""
  for name, record in (("sltrain", sltrain), ("relora", relora)):
    torch.manual_seed(0)
    x = torch.randn(2, 3, IN, dtype=torch.float64)
    dy = torch.randn(2, 3, OUT, dtype=torch.float64)
    found = {"x": x, "dy": dy, **record(x, dy)}
    arrays = {key: value.detach().numpy() for key, value in found.items()}
    np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
  main()
