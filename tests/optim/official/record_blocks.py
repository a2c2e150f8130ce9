"""Records what BAdam's official optimizer does to a small network.

    BADAM=CHECKOUT python tests/optim/official/record_blocks.py

To be run by hand, by an interpreter with torch; it needs neither jax nor
normjax. CHECKOUT is one of github.com/Ledzy/BAdam (Apache-2.0). Weights after
each step, in float64, go to `badam.npz`. The package imports transformers for
two names that this does not use; stubs stand for it.
"""

import os
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
STEPS, EVERY, LAYERS = 14, 3, 3


def block_optimizer():
  """The class of the checkout."""
  stubs = {
    "transformers": {},
    "transformers.pytorch_utils": {"ALL_LAYERNORM_LAYERS": []},
    "transformers.integrations": {"is_deepspeed_zero3_enabled": bool},
  }
  for name, values in stubs.items():
    module = types.ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module
  sys.path.insert(0, str(pathlib.Path(os.environ["BADAM"]) / "src" / "badam"))
  import block_optim

  # It holds the moving block in float32; here all is float64.
  torch.Tensor.float = lambda self: self
  return block_optim.BlockOptimizer


class Net(nn.Module):
  """An embedding, some layers, a head."""

  def __init__(self):
    super().__init__()
    self.embed = nn.Linear(4, 4, bias=False)
    self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(LAYERS))
    self.lm_head = nn.Linear(4, 2, bias=False)


def main():
  """Writes start, gradients and the weights after each step."""
  torch.manual_seed(0)
  model = Net().double()
  adam = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
  optimizer = block_optimizer()(
    base_optimizer=adam,
    named_parameters_list=list(model.named_parameters()),
    switch_block_every=EVERY,
    switch_mode="descending",
    verbose=0,
  )
  found = {
    f"start/{name}": p.detach().clone().numpy()
    for name, p in model.named_parameters()
  }
  history = {name: [] for name, _ in model.named_parameters()}
  drawn = {name: [] for name, _ in model.named_parameters()}
  for _ in range(STEPS):
    for name, p in model.named_parameters():
      gradient = torch.randn_like(p)
      drawn[name].append(gradient.numpy())
      p.grad = gradient.clone() if p.requires_grad else None
    optimizer.step()
    for name, p in model.named_parameters():
      history[name].append(p.detach().clone().numpy())
  found |= {f"gradients/{name}": np.stack(g) for name, g in drawn.items()}
  found |= {f"weights/{name}": np.stack(w) for name, w in history.items()}
  np.savez_compressed(HERE / "badam.npz", **found)


if __name__ == "__main__":
  main()
