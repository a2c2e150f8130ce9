"""Records what the official code of AdaB2N does to small streams.

    ADAB2N_SOURCE=CHECKOUT python tests/continual/official/record.py

To be run by hand, by an interpreter with torch; it needs neither jax nor
normjax. The checkout is of github.com/lvyilin/AdaB2N (MIT licence), commit
9aaba7e. It writes `norms.npz` and `learners.npz`, in float64 and channels last.
Of the learners it runs `observe`; what only fetches arguments and data sets is
replaced.
"""

import importlib.util
import os
import pathlib
import sys
import types

import inputs
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
SOURCE = pathlib.Path(os.environ["ADAB2N_SOURCE"])


def load(place):
  """The module in a file of the checkout."""
  name = place.removesuffix(".py").replace("/", ".")
  spec = importlib.util.spec_from_file_location(name, SOURCE / place)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def plain_norm():
  """PyTorch's, in float64, with the gain and the offset of `inputs`."""
  layer = torch.nn.BatchNorm2d(inputs.CHANNELS).double()
  scale, bias = inputs.affine()
  layer.weight.data, layer.bias.data = torch.tensor(scale), torch.tensor(bias)
  return layer


def ada_norm(kappa):
  """The official layer."""
  layer = load("models/utils/adab2n.py").AdaB2N(
    plain_norm(), inputs.TASKS, inputs.PER_TASK, kappa
  )
  layer = layer.double()
  layer.task_weight.data = torch.tensor(inputs.TASK_WEIGHT)
  return layer


def continual_norm():
  """The official layer with two groups."""
  made = load("models/utils/cn.py")
  groups = {"setG": lambda self: setattr(self, "G", 2)}
  return type("CN2", (made._CN,), groups)(plain_norm()).double()


def set_counts(layer, of_example, current):
  """As the learners do."""
  tasks, inverse, counts = torch.unique(
    torch.tensor(of_example), return_inverse=True, return_counts=True
  )
  extended = torch.zeros(current + 1, dtype=torch.long)
  extended[tasks] = counts
  layer.set_counts(tasks[inverse], counts[inverse], extended)


def record_norm(layer):
  """Of every step outputs, gradients and state."""
  found = {}
  for step, (current, of_example) in enumerate(inputs.NORM_STEPS):
    if hasattr(layer, "set_counts"):
      set_counts(layer, of_example, current)
      layer.cur_tasks.fill_(current)
    x = torch.tensor(inputs.images(step), requires_grad=True)
    layer.zero_grad()
    y = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    total = (y * torch.tensor(inputs.cotangents(step))).sum()
    seen = {"y": y}
    if hasattr(layer, "loss"):
      total = total + inputs.LAMBDA * layer.loss
      seen["penalty"] = layer.loss
    total.backward()
    seen |= {"dx": x.grad, "mean": layer.running_mean, "var": layer.running_var}
    seen |= {
      f"d{name}": torch.zeros(p.shape) if p.grad is None else p.grad
      for name, p in layer.named_parameters()
    }
    for name, value in seen.items():
      found.setdefault(name, []).append(value.detach().numpy().copy())
  return found


class Buffer:
  """Gives the draws of `inputs`."""

  def __init__(self, *_, **__):
    self.draws, self.added = [], []

  def is_empty(self):
    return not self.draws

  def get_data(self, *_, **__):
    return self.draws.pop(0)

  def add_data(self, **rows):
    self.added.append(rows)


class ContinualModel(torch.nn.Module):
  """What the learners need of the official one."""

  def __init__(self, backbone, loss, args, transform):
    super().__init__()
    self.net, self.loss, self.args = backbone, loss, args
    self.transform, self.device = transform, "cpu"
    self.opt = torch.optim.SGD(self.net.parameters(), lr=args.lr)


def stand_ins():
  """Modules of the checkout that only fetch arguments and data sets."""
  args = dict.fromkeys(
    (
      "add_management_args",
      "add_experiment_args",
      "add_rehearsal_args",
      "ArgumentParser",
    )
  )
  dataset = types.SimpleNamespace(
    N_TASKS=inputs.TASKS, N_CLASSES_PER_TASK=inputs.PER_TASK
  )
  made = {
    "datasets": {"get_dataset": lambda _: dataset},
    "models": {},
    "models.utils": {},
    "models.utils.continual_model": {"ContinualModel": ContinualModel},
    "utils": {},
    "utils.args": args,
    "utils.buffer": {"Buffer": Buffer},
    "utils.ring_buffer": {"RingBuffer": Buffer},
  }
  for name, values in made.items():
    module = types.ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module


class Net(torch.nn.Module):
  """1x1 convolution, norm, ReLU, mean, linear."""

  def __init__(self, norm):
    super().__init__()
    start = {k: torch.tensor(v) for k, v in inputs.start().items()}
    self.conv = torch.nn.Conv2d(2, inputs.CHANNELS, 1, bias=False).double()
    self.conv.weight.data = start["kernel"].T[:, :, None, None].contiguous()
    self.norm = norm
    self.head = torch.nn.Linear(inputs.CHANNELS, inputs.CLASSES).double()
    self.head.weight.data = start["head"].T.contiguous()
    self.head.bias.data = start["head_bias"]

  def forward(self, x):
    return self.head(torch.relu(self.norm(self.conv(x))).mean([2, 3]))


def first(images):
  """Channels first."""
  return torch.tensor(images).permute(0, 3, 1, 2).contiguous()


def draws(name, step):
  """What the buffer gives in a step, call by call."""
  labels = inputs.STEPS[step][2]
  if labels is None:
    return []
  _, *drawn = inputs.stream(step)
  kept = torch.tensor(inputs.kept(step))
  rows = [
    (first(x), torch.tensor(y)) for x, y in zip(drawn, labels, strict=True)
  ]
  return [(*row, kept) for row in rows] if "derpp" in name else rows[:1]


def record_learner(name, cls, norm):
  """Of every step the loss and what the step leaves."""
  args = types.SimpleNamespace(
    lr=inputs.LEARNING_RATE,
    alpha=inputs.ALPHA,
    beta=inputs.BETA,
    lambd=inputs.PENALTY,
    ada_t0=inputs.PENALTY_FROM,
    minibatch_size=4,
    buffer_size=4,
    buffer_mode="reservoir",
  )
  loss = torch.nn.functional.cross_entropy
  learner = getattr(load(f"models/{name}.py"), cls)(Net(norm), loss, args, None)
  learner.seen_so_far = torch.tensor([]).long()
  learner.num_classes = inputs.CLASSES
  found, current = {}, 0
  for step, (task, labels, _) in enumerate(inputs.STEPS):
    if task > current:
      learner.end_task(None)
      current = task
    learner.buffer.draws = draws(name, step)
    x = first(inputs.stream(step)[0])
    value = learner.observe(x, torch.tensor(labels), x)
    net = learner.net
    seen = {
      "loss": np.asarray(value),
      "kernel": net.conv.weight[:, :, 0, 0].T,
      "head": net.head.weight.T,
      "head_bias": net.head.bias,
      "scale": net.norm.weight,
      "bias": net.norm.bias,
      "mean": net.norm.running_mean,
      "var": net.norm.running_var,
    }
    if hasattr(net.norm, "task_weight"):
      seen["task_weight"] = net.norm.task_weight
    for key, each in seen.items():
      each = each.detach().numpy() if torch.is_tensor(each) else each
      found.setdefault(f"{name}/{key}", []).append(each.copy())
  return found


def etas(kappa):
  """The first rates of the official schedule."""
  layer, found = ada_norm(kappa), []
  for _ in range(inputs.ETAS):
    layer.num_batches_tracked.add_(1)
    found.append(layer.get_eta())
  return np.array(found)


def main():
  """Writes both files."""
  stand_ins()
  norms = {"ada_norm": ada_norm(inputs.KAPPA), "cn": continual_norm()}
  found = {
    f"{name}/{key}": value
    for name, layer in norms.items()
    for key, value in record_norm(layer).items()
  }
  found |= {f"eta/{kappa}": etas(kappa) for kappa in inputs.KAPPAS}
  np.savez_compressed(FOLDER / "norms.npz", **found)
  learned = {}
  for name, cls, norm in (
    ("derpp", "Derpp", plain_norm()),
    ("derpp_ada", "DerppAda", ada_norm(inputs.KAPPA)),
    ("er_ace", "ErACE", plain_norm()),
    ("er_ace_ada", "ErACEAda", ada_norm(inputs.KAPPA)),
  ):
    learned |= record_learner(name, cls, norm)
  np.savez_compressed(FOLDER / "learners.npz", **learned)
  for file in ("norms.npz", "learners.npz"):
    print(file, (FOLDER / file).stat().st_size, "bytes")


if __name__ == "__main__":
  main()
