"""Records what the official PyTorch norms do to small activations.

    python tests/norms/official/record.py power_norm --source=CHECKOUT

To be run by hand, by an interpreter with torch; it needs neither jax nor
normjax. One `<case>.npz` a case goes beside this file: in float64, the output,
the gradients and the state, stacked over `inputs.RECORDED_STEPS`; the output of
evaluation after them; and `meta` (JSON): revision and options. The sources are
checkouts of github.com/sIncerass/powernorm and
github.com/hikvision-research/Unified-Normalization.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess

import inputs
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
POWER_NORM = "fairseq/modules/norms/mask_powernorm.py"
UNIFIED_NORM = (
  "image_classification/models/unified_normalization/unified_normalization.py"
)

# case -> (file, class, options, whether padding is masked)
CASES = {
  "power_norm": (
    POWER_NORM,
    "MaskPowerNorm",
    {"group_num": 2, "warmup_iters": 5, "alpha_bkw": 0.8},
    False,
  ),
  "power_norm_masked": (
    POWER_NORM,
    "MaskPowerNorm",
    {"group_num": 1, "warmup_iters": 5},
    True,
  ),
  "unified_norm": (
    UNIFIED_NORM,
    "UN1d",
    {"window_size": [3, 4], "warmup_iters": 6, "momentum": 0.8},
    True,
  ),
  "unified_norm_filtered": (
    UNIFIED_NORM,
    "UN1d",
    {"window_size": 4, "warmup_iters": 6, "outlier_filtration": True},
    False,
  ),
  "unified_norm_window_1": (
    UNIFIED_NORM,
    "UN1d",
    {"window_size": 1, "warmup_iters": 2},
    False,
  ),
}


def make(case, source):
  """The official layer, with our parameters."""
  path, name, options, _ = CASES[case]
  spec = importlib.util.spec_from_file_location(case, source / path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  layer = getattr(module, name)(inputs.CHANNELS, **options).double()
  scale, bias = inputs.parameters()
  layer.weight.data = torch.tensor(scale)
  layer.bias.data = torch.tensor(bias)
  return layer


def call(case, layer, x):
  """The layer on (b, t, c), whatever layout it takes."""
  padding = torch.tensor(inputs.padding()) if CASES[case][3] else None
  if case.startswith("power_norm"):
    return layer(x.transpose(0, 1), pad_mask=padding).transpose(0, 1)
  return layer(x, pad_mask=padding)


def record(case, source):
  """Writes one file."""
  layer = make(case, source)
  arrays = {}
  for step in range(1, inputs.STEPS + 1):
    x = torch.tensor(inputs.tokens(step), requires_grad=True)
    layer.zero_grad()
    y = call(case, layer, x)
    y.backward(torch.tensor(inputs.cotangents(step)))
    if step not in inputs.RECORDED_STEPS:
      continue
    seen = {"y": y, "dx": x.grad}
    seen |= {"dscale": layer.weight.grad, "dbias": layer.bias.grad}
    seen |= dict(layer.named_buffers())
    for name, value in seen.items():
      arrays.setdefault(name, []).append(value.detach().numpy().copy())
  layer.eval()
  evaluated = call(case, layer, torch.tensor(inputs.tokens(1)))
  arrays["evaluated"] = evaluated.detach().numpy()
  git = ["git", "-C", str(source), "rev-parse", "HEAD"]
  path, name, options, masked = CASES[case]
  meta = {
    "torch": torch.__version__,
    "revision": subprocess.check_output(git, text=True).strip(),
    "file": path,
    "class": name,
    "options": options,
    "masked": masked,
  }
  file = FOLDER / f"{case}.npz"
  np.savez_compressed(file, meta=np.array(json.dumps(meta)), **arrays)
  print(case, file.stat().st_size, "bytes")


def main():
  """Records the cases that are named."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("cases", nargs="+", choices=CASES)
  parser.add_argument("--source", type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  for case in arguments.cases:
    record(case, arguments.source)


if __name__ == "__main__":
  main()
