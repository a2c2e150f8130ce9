"""Records what LISA's official code does to a small network.

    LMFLOW=CHECKOUT python tests/optim/official/record_lisa.py

To be run by hand, by an interpreter with torch; it needs neither jax nor
normjax. CHECKOUT is one of github.com/OptimalScale/LMFlow (Apache-2.0). Its
callback chooses the layers; torch's AdamW moves them, as in the Trainer that
calls it: gradients are set to None after each step. The layers of each
interval, and weights after each step, in float64, go to `lisa.npz`. The file
imports two names of transformers; stubs stand for them.
"""

import importlib.util
import os
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
SOURCE = "src/lmflow/pipeline/utils/lisa_trainer.py"
STEPS, EVERY, LAYERS, ACTIVE = 14, 3, 4, 2


def callback_class():
  """The class of the checkout."""
  stubs = {
    "transformers": {"PreTrainedModel": object},
    "transformers.trainer_callback": {"TrainerCallback": object},
  }
  for name, values in stubs.items():
    module = types.ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module
  path = pathlib.Path(os.environ["LMFLOW"]) / SOURCE
  spec = importlib.util.spec_from_file_location("lisa_trainer", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.DynamicLayerActivationCallback


class Net(nn.Module):
  """An embedding, some layers, a head."""

  def __init__(self):
    super().__init__()
    self.embed = nn.Linear(4, 4, bias=False)
    self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(LAYERS))
    self.lm_head = nn.Linear(4, 2, bias=False)


def main():
  """Writes start, gradients, the layers and the weights after each step."""
  torch.manual_seed(0)
  # The callback draws from the global state.
  np.random.seed(0)
  model = Net().double()
  adam = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
  callback = callback_class()(
    n_layers=ACTIVE,
    interval_steps=EVERY,
    model=model,
    lisa_layers_attribute="model.layers",
  )
  found = {
    f"start/{name}": p.detach().clone().numpy()
    for name, p in model.named_parameters()
  }
  history = {name: [] for name, _ in model.named_parameters()}
  drawn = {name: [] for name, _ in model.named_parameters()}
  active = []
  for step in range(STEPS):
    state = types.SimpleNamespace(global_step=step)
    callback.on_step_begin(None, state, None)
    active.append(np.sort(callback.active_layers_indices))
    for name, p in model.named_parameters():
      gradient = torch.randn_like(p)
      drawn[name].append(gradient.numpy())
      p.grad = gradient.clone() if p.requires_grad else None
    adam.step()
    adam.zero_grad()
    for name, p in model.named_parameters():
      history[name].append(p.detach().clone().numpy())
  found["active"] = np.stack(active)
  found |= {f"gradients/{name}": np.stack(g) for name, g in drawn.items()}
  found |= {f"weights/{name}": np.stack(w) for name, w in history.items()}
  np.savez_compressed(HERE / "lisa.npz", **found)


if __name__ == "__main__":
  main()
