"""Records what SLTrain's official layer and ReLoRA's do, in float64.

    SLTRAIN=CHECKOUT RELORA=CHECKOUT python tests/nn/linear/official/record.py

With names behind it those alone: sltrain, relora, relora_training (what ReLoRA
does to the learning rate and to the optimizer's moments).
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


# cosine_restarts: steps, first warm-up, warm-up of restarts, steps per cycle,
# least fraction, adjust_step. The README's at a tenth, and cases for its edges.
SCHEDULES = (
  (2000, 50, 10, 500, 0.1, 0),
  (60, 5, 3, 20, 0.1, 0),
  (60, 1, 1, 12, 0.05, 0),
  (60, 0, 0, 15, 1.0, 0),
  (60, 5, 3, 20, 0.1, 7),
  (60, 4, 6, 20, 0.2, 2),
)
PRUNED = 0.9, 0.8, 0.5


def relora_training(x, dy):
  """Fractions of the peak learning rate by step, and moments pruned."""
  del dy
  checkout = pathlib.Path(os.environ["RELORA"]) / "peft_pretraining"
  for absent in ("transformers", "wandb", "loguru", "modeling_llama"):
    stub = types.ModuleType(absent)
    stub.logger = stub.LlamaDecoderLayer = None
    sys.modules.setdefault(absent, stub)
  sys.modules["peft_pretraining"] = types.ModuleType("peft_pretraining")
  sys.modules["peft_pretraining.modeling_llama"] = sys.modules["modeling_llama"]
  module = load(checkout / "training_utils.py", "training_utils")
  held = {"schedules": torch.tensor(SCHEDULES, dtype=torch.float64)}
  keys = (
    "num_training_steps",
    "first_warmup_steps",
    "restart_warmup_steps",
    "restart_every",
    "min_lr_ratio",
    "adjust_step",
  )
  official = module._get_cosine_schedule_with_multiple_warmups_lambda
  for n, values in enumerate(SCHEDULES):
    options = dict(zip(keys, values, strict=True))
    # One step more than there are: a warm-up's value belongs to the step
    # before in a schedule that counts from 1.
    fractions = [official(t, **options) for t in range(values[0] + 1)]
    held[f"fractions_{n}"] = torch.tensor(fractions, dtype=torch.float64)
  moment = torch.randn(24, 4, dtype=torch.float64)
  held |= {"moment": moment, "ratios": torch.tensor(PRUNED)}
  for n, ratio in enumerate(PRUNED):
    pruned = moment.clone()
    module.magnitude_pruning_(pruned, ratio)
    held[f"pruned_{n}"] = pruned
  return held


def main():
  """Writes a file per function that records."""
  records = (sltrain, relora, relora_training)
  asked = sys.argv[1:] or [record.__name__ for record in records]
  for record in records:
    name = record.__name__
    if name not in asked:
      continue
    torch.manual_seed(0)
    x = torch.randn(2, 3, IN, dtype=torch.float64)
    dy = torch.randn(2, 3, OUT, dtype=torch.float64)
    found = {"x": x, "dy": dy, **record(x, dy)}
    arrays = {key: value.detach().numpy() for key, value in found.items()}
    np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
  main()
