"""Records what the official PyTorch implementations do to small leaves.

    python tests/optim/official/record.py adamp sgdp
    python tests/optim/official/record.py conda --source=CHECKOUT

To be run by hand, by an interpreter with torch and the package; it needs
neither jax nor normjax. One `<case>.npz` a case goes beside this file: the
weights after some steps, how far float32 took them from float64, and `meta`
(JSON): package, version or revision, options, a checksum of the inputs.
The packages are on PyPI (`pip install torch adamp bitsandbytes`); Conda, Muon,
SOAP and torchao are checkouts of github.com/jie040109/Conda,
/KellerJordan/Muon, /nikhilvyas/SOAP and /pytorch/ao.
"""

import argparse
import importlib
import importlib.metadata
import json
import math
import pathlib
import subprocess
import sys
import types

import inputs
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
RECORDED_STEPS = (1, 4, inputs.STEPS)
MATRICES = ("wide", "tall", "square")

# case -> (package, class, options, leaves, gradients)
CASES = {
  "adamp": (
    "adamp",
    "AdamP",
    {"lr": 1e-3, "weight_decay": 0.3},
    (*inputs.LEAVES,),
    inputs.turning_gradient,
  ),
  "adamp_nesterov": (
    "adamp",
    "AdamP",
    {"lr": 1e-3, "weight_decay": 0.3, "nesterov": True, "wd_ratio": 0.3},
    (*inputs.LEAVES,),
    inputs.turning_gradient,
  ),
  "sgdp": (
    "adamp",
    "SGDP",
    {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.3, "dampening": 0.1},
    (*inputs.LEAVES,),
    inputs.turning_gradient,
  ),
  "sgdp_nesterov": (
    "adamp",
    "SGDP",
    {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.3, "nesterov": True},
    (*inputs.LEAVES,),
    inputs.turning_gradient,
  ),
  "conda": (
    "conda_torch.conda",
    "Conda",
    {
      "lr": 1e-2,
      "betas": (0.9, 0.99),
      "weight_decay": 0.1,
      "update_proj_gap": 4,
      "scale": 0.25,
    },
    (*MATRICES, "token", "bias"),
    inputs.gradient,
  ),
  "muon": (
    "muon",
    "SingleDeviceMuon",
    {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1},
    (*MATRICES, "conv"),
    inputs.gradient,
  ),
  "soap": (
    "soap",
    "SOAP",
    # A side that is longer than the other has no full rank at first, and
    # then no eigenbasis of its own.
    {"lr": 3e-3, "precondition_frequency": 4, "max_precond_dim": 8},
    MATRICES,
    inputs.gradient,
  ),
  "adam_8bit": (
    "bitsandbytes.optim",
    "Adam8bit",
    {"lr": 1e-3},
    (*inputs.LARGE, "wide"),
    inputs.gradient,
  ),
  "adamw_8bit": (
    "bitsandbytes.optim",
    "AdamW8bit",
    {"lr": 1e-3, "weight_decay": 0.1},
    (*inputs.LARGE, "wide"),
    inputs.gradient,
  ),
  "momentum_8bit": (
    "bitsandbytes.optim",
    "SGD8bit",
    {"lr": 1e-3, "momentum": 0.9},
    (*inputs.LARGE, "wide"),
    inputs.gradient,
  ),
  "lion_8bit": (
    "bitsandbytes.optim",
    "Lion8bit",
    {"lr": 1e-3, "weight_decay": 0.1},
    (*inputs.LARGE, "wide"),
    inputs.gradient,
  ),
  "adamw_4bit": (
    "torchao.optim",
    "AdamW4bit",
    {"lr": 1e-3, "weight_decay": 0.1},
    (*inputs.PACKED, "wide"),
    inputs.gradient,
  ),
  "adamw_fp8": (
    "torchao.optim",
    "AdamWFp8",
    {"lr": 1e-3, "weight_decay": 0.1},
    (*inputs.PACKED, "wide"),
    inputs.gradient,
  ),
}


TORCHAO = ("adamw_4bit", "adamw_fp8")


def watch_projection(optimizer, fired):
  """Notes by step and leaf: 0 nothing, 1 channels, 2 the layer is projected.

  A recording is worth nothing where rounding could turn a decision.
  """
  cosines = []
  cosine_similarity = optimizer._cosine_similarity
  projection = optimizer._projection

  def watched_cosine(x, y, eps, view):
    cosine = cosine_similarity(x, y, eps, view)
    threshold = optimizer.defaults["delta"] / math.sqrt(view(x).size(1))
    distance = abs(cosine.max().item() / threshold - 1)
    if distance < 1e-2:
      raise ValueError(f"a cosine is within {distance:.1e} of its threshold")
    cosines.append(cosine.max().item() < threshold)
    return cosine

  def watched_projection(*arguments):
    cosines.clear()
    result = projection(*arguments)
    fired.append(len(cosines) if cosines[-1] else 0)
    return result

  optimizer._cosine_similarity = watched_cosine
  optimizer._projection = watched_projection


def make(case, params):
  """The official optimizer."""
  package, name, options, _, _ = CASES[case]
  factory = getattr(importlib.import_module(package), name)
  if case == "conda":
    keys = ("update_proj_gap", "scale")
    projected = {key: options[key] for key in keys} | {"proj_type": "std"}
    rest = {key: v for key, v in options.items() if key not in keys}
    matrices = len(MATRICES)
    return factory(
      [
        {"params": params[:matrices], **projected},
        {"params": params[matrices:]},
      ],
      no_deprecation_warning=True,
      **rest,
    )
  return factory(params, **options)


def run(case, dtype):
  """The weights after each step, by leaf; and which projections fired."""
  _, _, _, names, gradients = CASES[case]
  # SOAP's preconditioners have the default dtype.
  torch.set_default_dtype(dtype)
  params = [
    torch.nn.Parameter(torch.tensor(inputs.start(name), dtype=dtype))
    for name in names
  ]
  optimizer = make(case, params)
  fired = []
  if hasattr(optimizer, "_projection"):
    watch_projection(optimizer, fired)
  weights = {name: [] for name in names}
  for step in range(1, inputs.STEPS + 1):
    for name, p in zip(names, params, strict=True):
      p.grad = torch.tensor(gradients(name, step), dtype=dtype)
    optimizer.step()
    for name, p in zip(names, params, strict=True):
      weights[name].append(p.detach().numpy().copy())
  return weights, np.array(fired, np.uint8).reshape(inputs.STEPS, -1)


def origin(case, source):
  """Where the code came from."""
  package = CASES[case][0].partition(".")[0]
  facts = {"torch": torch.__version__}
  if source is None:
    return {
      **facts,
      "package": package,
      "version": importlib.metadata.version(package),
    }
  git = ["git", "-C", str(source)]
  revision = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True)
  return {**facts, "package": package, "revision": revision.strip()}


def _nearest_code(x, code, absmax_out, codes_out, block_size):
  keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
  quantize = torch.ops.bitsandbytes.quantize_blockwise.default
  codes, absmax = quantize.redispatch(keys, x, code, block_size)
  codes_out.copy_(codes)
  absmax_out.copy_(absmax)


def prepare(case):
  """What some codes need to run here, and what is changed in them."""
  if case == "conda":
    # It asks transformers whether torch is new enough, no more.
    versions = types.ModuleType("transformers.utils.versions")
    versions.require_version = lambda requirement: None
    for name in ("transformers", "transformers.utils"):
      sys.modules[name] = types.ModuleType(name)
    sys.modules[versions.__name__] = versions
  if case == "muon":
    torch.Tensor.bfloat16 = lambda tensor: tensor
    return "Newton-Schulz in the dtype of the weights instead of bfloat16"
  if case.endswith("_8bit"):
    backend = importlib.import_module("bitsandbytes.backends.cpu.ops")
    backend._quant_blockwise_fp32_direct = _nearest_code
    return (
      "codes by the quantizer of the package's default backend: the CPU"
      " library's is a table of 65536 equal bins, which holds nothing below"
      " 1.5e-5 of a block's largest entry"
    )
  if case in TORCHAO:
    torch.compile = lambda function, **options: function
    return "not compiled"
  return ""


def record(case, source):
  """Writes one file."""
  changed = prepare(case)
  _, name, options, names, gradients = CASES[case]
  weights, fired = run(case, torch.float32)
  arrays = {}
  is_rounded = case.endswith("_8bit") or case in TORCHAO
  exact = None if is_rounded else run(case, torch.float64)[0]
  for leaf in names:
    is_large = leaf in inputs.LARGE or leaf in inputs.PACKED
    steps = (inputs.STEPS,) if is_large else RECORDED_STEPS
    for step in steps:
      arrays[f"{leaf}/{step}"] = weights[leaf][step - 1]
      if exact is not None:
        error = np.abs(weights[leaf][step - 1] - exact[leaf][step - 1])
        arrays[f"{leaf}/{step}/rounding"] = np.float32(error.max())
  meta = {
    **origin(case, source),
    "class": name,
    "options": options,
    "leaves": names,
    "gradients": gradients.__name__,
    "inputs": inputs.digest(gradients, names),
    "changed": changed,
  }
  if fired.size:
    arrays["fired"] = fired
  np.savez_compressed(
    FOLDER / f"{case}.npz", meta=np.array(json.dumps(meta)), **arrays
  )
  size = (FOLDER / f"{case}.npz").stat().st_size
  largest = max(
    (float(v) for k, v in arrays.items() if k.endswith("rounding")), default=0
  )
  print(case, f"{size} bytes, float32 is off by up to {largest:.1e}")
  if fired.size:
    print(fired)


def main():
  """Records the cases that are named."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("cases", nargs="+", choices=CASES)
  parser.add_argument("--source", type=pathlib.Path, help="a checkout")
  arguments = parser.parse_args()
  if arguments.source:
    sys.path.insert(0, str(arguments.source))
  for case in arguments.cases:
    record(case, arguments.source)


if __name__ == "__main__":
  main()
