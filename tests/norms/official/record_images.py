"""Records what norms of images of PyTorch projects do to small images.

    python tests/norms/official/record_images.py torch_batch_norm
    python tests/norms/official/record_images.py switch_norm --source=CHECKOUT

To be run by hand, by an interpreter with torch, and timm for its cases; it
needs neither jax nor normjax. One `images/<case>.npz` per case: in float64 and
channels last, the output, the gradients and the state, stacked over
`inputs.IMAGE_STEPS`; the output of evaluation after them; and `meta` (JSON).
The checkouts are of github.com/switchablenorms/Switchable-Normalization and
github.com/joe-siyuan-qiao/Batch-Channel-Normalization.
"""

import argparse
import importlib
import importlib.util
import json
import pathlib
import sys
import types

import inputs
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent / "images"
SWITCHABLE = "devkit/ops/switchable_norm.py"
BCN = "imagenet/models/layers.py"

# case -> (package or file, class, options); the number of channels comes first.
CASES = {
  "torch_batch_norm": ("torch.nn", "BatchNorm2d", {"momentum": 0.2}),
  "torch_group_norm": ("torch.nn", "GroupNorm", {"num_groups": 4}),
  "torch_instance_norm": ("torch.nn", "InstanceNorm2d", {"affine": True}),
  "timm_evonorm_b0": ("timm", "EvoNorm2dB0", {"eps": 1e-3}),
  "timm_evonorm_b1": ("timm", "EvoNorm2dB1", {}),
  "timm_evonorm_b2": ("timm", "EvoNorm2dB2", {"momentum": 0.2}),
  "timm_evonorm_s0": ("timm", "EvoNorm2dS0", {"groups": 4}),
  "timm_evonorm_s1": ("timm", "EvoNorm2dS1", {"groups": 4}),
  "timm_evonorm_s2": ("timm", "EvoNorm2dS2", {"groups": 4}),
  "timm_frn": ("timm", "FilterResponseNormTlu2d", {}),
  "switch_norm": (SWITCHABLE, "SwitchNorm2d", {"momentum": 0.8}),
  "batch_channel_norm": (BCN, "GN", {"num_groups": 4}),
}


def timm_layers():
  """The norms of timm without the rest of timm, which wants torchvision."""
  (root,) = importlib.util.find_spec("timm").submodule_search_locations
  package = types.ModuleType("timm_layers")
  package.__path__ = [f"{root}/layers"]
  sys.modules["timm_layers"] = package
  found = {}
  for module in ("evo_norm", "filter_response_norm"):
    found |= vars(importlib.import_module(f"timm_layers.{module}"))
  return found


def load(place, source):
  """What defines the class, by name."""
  if place == "timm":
    return timm_layers()
  if not place.endswith(".py"):
    return vars(importlib.import_module(place))
  spec = importlib.util.spec_from_file_location("official", source / place)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return vars(module)


def make(case, source):
  """The layer, in float64, its parameters those of `inputs`."""
  place, name, options = CASES[case]
  channels = "num_channels" if name in ("GroupNorm", "GN") else "num_features"
  sizes = {channels: inputs.IMAGES[-1]}
  layer = load(place, source)[name](**sizes, **options).double()
  for index, (_, parameter) in enumerate(layer.named_parameters()):
    value = inputs.image_parameter(index, tuple(parameter.shape))
    parameter.data = torch.tensor(value)
  return layer


def call(layer, x):
  """The layer, channels last."""
  return layer(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)


def record(case, source):
  """Writes one file."""
  layer = make(case, source)
  arrays = {}
  for step in range(1, inputs.IMAGE_STEPS + 1):
    x = torch.tensor(inputs.images(step), requires_grad=True)
    layer.zero_grad()
    y = call(layer, x)
    y.backward(torch.tensor(inputs.image_cotangents(step)))
    seen = {"y": y, "dx": x.grad}
    seen |= {f"d{name}": p.grad for name, p in layer.named_parameters()}
    seen |= dict(layer.named_buffers())
    for name, value in seen.items():
      arrays.setdefault(name, []).append(value.detach().numpy().copy())
  layer.eval()
  arrays["evaluated"] = call(layer, torch.tensor(inputs.images(1))).detach()
  place, name, options = CASES[case]
  meta = {
    "torch": torch.__version__,
    "place": place,
    "class": name,
    "options": options,
    "parameters": [name for name, _ in layer.named_parameters()],
  }
  if place == "timm":
    meta["timm"] = importlib.metadata.version("timm")
  FOLDER.mkdir(exist_ok=True)
  file = FOLDER / f"{case}.npz"
  np.savez_compressed(file, meta=np.array(json.dumps(meta)), **arrays)
  print(case, meta["parameters"], file.stat().st_size, "bytes")


def main():
  """Records the cases that are named."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("cases", nargs="+", choices=CASES)
  parser.add_argument("--source", type=pathlib.Path)
  arguments = parser.parse_args()
  for case in arguments.cases:
    record(case, arguments.source)


if __name__ == "__main__":
  main()
