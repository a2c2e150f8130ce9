"""Records what the official DSBN does to images of one domain after another.

    DSBN=CHECKOUT python tests/norms/official/record_domains.py

To be run by hand, by an interpreter with torch; it needs neither jax nor
normjax. The checkout is of github.com/wgchang/DSBN, which has no licence: only
the arrays that it produced are kept. `images/dsbn.npz`: in float64 and channels
last, outputs, gradients and state, stacked over steps and domains; the output
of evaluation in each domain after them.
"""

import importlib.util
import os
import pathlib

import inputs
import numpy as np
import torch

FILE = pathlib.Path(__file__).parent / "images" / "dsbn.npz"
DOMAINS = (0, 1, 0)


def make():
  """The layer of two domains, in float64, its parameters those of `inputs`."""
  path = pathlib.Path(os.environ["DSBN"]) / "model" / "dsbn.py"
  spec = importlib.util.spec_from_file_location("official", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  layer = module.DomainSpecificBatchNorm2d(
    inputs.IMAGES[-1], num_classes=2, momentum=0.2
  ).double()
  for index, (_, parameter) in enumerate(layer.named_parameters()):
    value = inputs.image_parameter(index, tuple(parameter.shape))
    parameter.data = torch.tensor(value)
  return layer


def call(layer, x, domain):
  """The layer, channels last."""
  label = torch.full((len(x),), domain)
  y, _ = layer(x.permute(0, 3, 1, 2).contiguous(), label)
  return y.permute(0, 2, 3, 1)


def main():
  """Writes the file."""
  layer, arrays = make(), {"domains": [np.array(d) for d in DOMAINS]}
  for step, domain in enumerate(DOMAINS, 1):
    x = torch.tensor(inputs.images(step), requires_grad=True)
    layer.zero_grad()
    y = call(layer, x, domain)
    y.backward(torch.tensor(inputs.image_cotangents(step)))
    seen = {"y": y, "dx": x.grad}
    for ours, theirs in (
      ("scale", "weight"),
      ("bias", "bias"),
      ("mean", "running_mean"),
      ("var", "running_var"),
    ):
      each = [getattr(norm, theirs) for norm in layer.bns]
      if ours in ("scale", "bias"):
        # What has no part in a call has no gradient.
        each = [torch.zeros_like(p) if p.grad is None else p.grad for p in each]
        ours = f"d{ours}"
      seen[ours] = torch.stack(each)
    for name, value in seen.items():
      arrays.setdefault(name, []).append(value.detach().numpy().copy())
  layer.eval()
  x = torch.tensor(inputs.images(1))
  arrays["evaluated"] = [call(layer, x, d).detach().numpy() for d in (0, 1)]
  arrays = {name: np.stack(values) for name, values in arrays.items()}
  np.savez_compressed(FILE, torch=np.array(torch.__version__), **arrays)
  print(FILE, FILE.stat().st_size, "bytes")


if __name__ == "__main__":
  main()
