"""The PyTorch peers; run by path, by an interpreter without jax or normjax.

One JSON object a line comes in on stdin, one goes out on stdout:

    {"do": "hello", "threads": 2}    -> {"versions": {"torch": "…", …}}
    {"do": "make", "name": "…", "leaves": [[shape, kind], …]}
                                     -> {"first_step_s": …}
    {"do": "make_norm", "name": "…", "shape": […], "eps": …}      -> the same
    {"do": "make_model", "module": "…", "name": "…", "sizes": {…}}
                                     -> the same, and {"peer": 0}
    {"do": "steps", "count": 3, "peer": 0}                -> {"seconds": …}
    {"do": "drop"}                   -> {}

What fails answers {"error": "…"}. Kinds are "matrix", "embedding", "other".
A model stays beside those made before, as number `peer`; an optimizer or a norm
takes the place of all, as number 0.
"""

import gc
import importlib
import importlib.metadata
import json
import math
import os
import sys
import time

PACKAGES = (
  "torch",
  "adamp",
  "pytorch_optimizer",
  "bitsandbytes",
  "transformers",
)
LEARNING_RATE = 1e-3


# As our defaults.
_LOW_RANK = {
  "rank": 128,
  "update_proj_gap": 200,
  "scale": 0.25,
  "projection_type": "std",
}


def _adamw(params, weight_decay=0.1):
  if not params:
    return []
  import torch

  return [
    torch.optim.AdamW(
      params, lr=LEARNING_RATE, weight_decay=weight_decay, fused=True
    )
  ]


def _all(package, name, **options):
  """The class moves every leaf."""

  def make(by_kind):
    factory = getattr(importlib.import_module(package), name)
    params = [p for group in by_kind.values() for p in group]
    return [factory(params, lr=LEARNING_RATE, **options)]

  return make


def _matrices(package, name, **options):
  """The class moves the hidden matrices, torch's fused AdamW the rest.

  The options are those of the matrices' group: only a group that names its
  rank is projected by pytorch_optimizer, else its APOLLO and Fira are AdamW.
  """

  def make(by_kind):
    factory = getattr(importlib.import_module(package), name)
    rest = by_kind["embedding"] + by_kind["other"]
    group = {"params": by_kind["matrix"], **options}
    return [factory([group], lr=LEARNING_RATE), *_adamw(rest)]

  return make


def _eight_bit(name, **options):
  """Embeddings keep float32 state, as bitsandbytes advises."""

  def make(by_kind):
    factory = getattr(importlib.import_module("bitsandbytes.optim"), name)
    params = by_kind["matrix"] + by_kind["other"]
    return [
      factory(params, lr=LEARNING_RATE, **options),
      *_adamw(by_kind["embedding"]),
    ]

  return make


class _SinkGD:
  """Gradient descent balanced over rows and columns, as anyone writes it."""

  def __init__(self, params, lr, num_iters=5):
    self.params, self.lr, self.num_iters = params, lr, num_iters

  def step(self):
    import torch

    with torch.no_grad():
      for p in self.params:
        x = p.grad
        rows, columns = x.shape
        for _ in range(self.num_iters):
          norm = x.norm(dim=1, keepdim=True).clamp_min(1e-8)
          x = math.sqrt(columns) * x / norm
          norm = x.norm(dim=0, keepdim=True).clamp_min(1e-8)
          x = math.sqrt(rows) * x / norm
        p.add_(x, alpha=-self.lr)


def _plain_sinkgd(by_kind):
  rest = by_kind["embedding"] + by_kind["other"]
  return [_SinkGD(by_kind["matrix"], 0.05 * LEARNING_RATE), *_adamw(rest)]


# Name to (the package that it needs, its maker).
PEERS = {
  "torch AdamW, fused": (
    "torch",
    _all("torch.optim", "AdamW", weight_decay=0.1, fused=True),
  ),
  "torch SinkGD, plain": ("torch", _plain_sinkgd),
  "adamp AdamP": ("adamp", _all("adamp", "AdamP", weight_decay=0.1)),
  "adamp SGDP": (
    "adamp",
    _all("adamp", "SGDP", momentum=0.9, weight_decay=1e-4),
  ),
  "bitsandbytes Adam8bit": ("bitsandbytes", _eight_bit("Adam8bit")),
  "bitsandbytes AdamW8bit": (
    "bitsandbytes",
    _eight_bit("AdamW8bit", weight_decay=0.1),
  ),
  "bitsandbytes SGD8bit": (
    "bitsandbytes",
    _eight_bit("SGD8bit", momentum=0.9),
  ),
  "bitsandbytes Lion8bit": ("bitsandbytes", _eight_bit("Lion8bit")),
  **{
    f"pytorch_optimizer {name}": (
      "pytorch_optimizer",
      _matrices("pytorch_optimizer", name, **options),
    )
    for name, options in (
      ("Conda", {}),
      ("APOLLO", {**_LOW_RANK, "scale": 1.0}),
      ("Fira", _LOW_RANK),
    )
  },
  "pytorch_optimizer Lion": (
    "pytorch_optimizer",
    _all("pytorch_optimizer", "Lion"),
  ),
}


def _batch_norm(torch, x, scale, bias, eps):
  # Running statistics are moved, too.
  mean, variance = torch.zeros_like(bias), torch.ones_like(scale)
  return lambda: torch.nn.functional.batch_norm(
    x, mean, variance, scale, bias, training=True, eps=eps
  )


# Channels are on axis 1 for these; a `channels_last` array lies as ours do.
_CHANNELS_SECOND = (
  "torch F.batch_norm",
  "torch F.group_norm",
  "torch F.instance_norm",
)
# Name to a maker of the forward pass.
NORMS = {
  "torch F.layer_norm": lambda torch, x, scale, bias, eps: (
    lambda: torch.nn.functional.layer_norm(x, scale.shape, scale, bias, eps)
  ),
  "torch F.rms_norm": lambda torch, x, scale, bias, eps: (
    lambda: torch.nn.functional.rms_norm(x, scale.shape, scale, eps)
  ),
  "torch F.batch_norm": _batch_norm,
  "torch F.group_norm": lambda torch, x, scale, bias, eps: (
    lambda: torch.nn.functional.group_norm(x, 32, scale, bias, eps)
  ),
  "torch F.instance_norm": lambda torch, x, scale, bias, eps: (
    lambda: torch.nn.functional.instance_norm(
      x, weight=scale, bias=bias, eps=eps
    )
  ),
}


def _norm_step(name, shape, eps):
  """Forward pass and gradients of all inputs, as autograd gives them."""
  import torch

  x, dy = torch.randn(shape), torch.randn(shape)
  if name in _CHANNELS_SECOND and len(shape) == 4:
    x, dy = x.permute(0, 3, 1, 2), dy.permute(0, 3, 1, 2)
  x.requires_grad_()
  scale = torch.ones(shape[-1], requires_grad=True)
  bias = torch.zeros(shape[-1], requires_grad=True)
  forward = NORMS[name](torch, x, scale, bias, eps)

  def step():
    y = forward()
    torch.autograd.grad(y, (x, scale, bias), dy, allow_unused=True)

  return step


class Session:
  """Answers messages; holds the peers that were made since the last drop."""

  def __init__(self):
    self.made = []

  def hello(self, threads):
    """Sets the threads; says what is installed."""
    versions = {}
    for package in PACKAGES:
      try:
        versions[package] = importlib.metadata.version(package)
      except importlib.metadata.PackageNotFoundError:
        versions[package] = None
    if versions["torch"] is not None:
      import torch

      torch.set_num_threads(threads)
    return {"versions": versions}

  def make(self, name, leaves):
    """Makes an optimizer and its leaves, and makes its first step."""
    self.drop()
    import torch

    package, maker = PEERS[name]
    importlib.import_module(package)
    generator = torch.Generator().manual_seed(0)
    by_kind = {"matrix": [], "embedding": [], "other": []}
    for shape, kind in leaves:
      values = torch.randn(shape, generator=generator)
      p = torch.nn.Parameter(0.02 * values)
      p.grad = 1e-3 * torch.randn(shape, generator=generator)
      by_kind[kind].append(p)
    optimizers = maker(by_kind)

    def step():
      for optimizer in optimizers:
        optimizer.step()

    return self._hold(step)

  def make_norm(self, name, shape, eps):
    """Makes a norm's forward and backward pass."""
    self.drop()
    return self._hold(_norm_step(name, shape, eps))

  def make_model(self, module, name, sizes):
    """Makes a step of a model; its module lies beside this script."""
    return self._hold(importlib.import_module(module).MODELS[name](**sizes))

  def _hold(self, step):
    self.made.append(step)
    peer = len(self.made) - 1
    return {"peer": peer, "first_step_s": self.steps(1, peer)["seconds"]}

  def steps(self, count, peer):
    """Seconds of so many steps of one peer."""
    step = self.made[peer]
    start_s = time.perf_counter()
    for _ in range(count):
      step()
    return {"seconds": time.perf_counter() - start_s}

  def drop(self):
    """Frees the peers."""
    self.made = []
    gc.collect()
    return {}


def main():
  """Answers until stdin ends."""
  # What libraries print must not get between the answers.
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  session = Session()
  for line in sys.stdin:
    message = json.loads(line)
    try:
      reply = getattr(session, message.pop("do"))(**message)
    except Exception as error:
      first = (str(error).splitlines() or [""])[0]
      reply = {"error": f"{type(error).__name__}: {first}"}
    print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
  main()
