"""Records what official codes of test-time adaptation do to a small network.

    ADAPT_CHECKOUTS=FOLDER python tests/adapt/official/record.py [CASE …]

To be run by hand, by an interpreter with torch; it needs neither jax nor
normjax. FOLDER holds checkouts, each in a folder of its name, of github.com/
DequanWang/tent, mr-eggplant/EATA, mr-eggplant/SAR, TaesikGong/NOTE,
fiveai/LAME and devavratTomar/unmixtns. One `<case>.npz` each, in float64: the
logits of each step, and the state after the last. Nothing of the codes is kept.
"""

import importlib
import importlib.util
import math
import os
import pathlib
import sys
import types

import inputs
import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
CHECKOUTS = pathlib.Path(os.environ.get("ADAPT_CHECKOUTS", "."))
MARGIN = 0.42 * math.log(inputs.CLASSES)


def load(path, name):
  """A module of a checkout, by its file."""
  spec = importlib.util.spec_from_file_location(name, CHECKOUTS / path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  spec.loader.exec_module(module)
  return module


class Net(nn.Module):
  """Two blocks and a head."""

  def __init__(self):
    super().__init__()
    a, b, c = inputs.WIDTHS
    self.layer1 = nn.Sequential(
      nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)
    )
    self.layer4 = nn.Sequential(
      nn.Conv2d(b, c, 3, padding=1), nn.BatchNorm2d(c)
    )
    self.fc = nn.Linear(c, inputs.CLASSES)

  def features(self, x):
    """What the head reads."""
    x = torch.relu(self.layer4(torch.relu(self.layer1(x))))
    return x.mean((2, 3))

  def forward(self, x):
    """Logits."""
    return self.fc(self.features(x))


def net():
  """The network with the values of `inputs`, in evaluation mode."""
  model = Net().double()
  values = {k: torch.tensor(v) for k, v in inputs.variables().items()}
  model.load_state_dict(values, strict=False)
  return model.eval()


def batches():
  return [torch.tensor(inputs.batch(step)) for step in range(inputs.STEPS)]


def run(adapted, model):
  """The logits of each step, and what the state dict is at the end."""
  logits = [adapted(x).detach().numpy() for x in batches()]
  state = {k: v.numpy() for k, v in model.state_dict().items()}
  kept = {k: v for k, v in state.items() if ".1." in k and "num" not in k}
  return {"logits": np.stack(logits), **kept}


def norm():
  model = net()
  official = load("tent/norm.py", "norm").Norm(model, no_stats=True)
  return run(official, model)


def tent(steps=1, sgd=False):
  official = load("tent/tent.py", "tent")
  model = official.configure_model(net())
  params, _ = official.collect_params(model)
  rule = torch.optim.Adam(params, lr=0.01, betas=(0.9, 0.999))
  if sgd:
    rule = torch.optim.SGD(params, lr=0.05, momentum=0.9)
  return run(official.Tent(model, rule, steps=steps), model)


def eata(fisher=True):
  official = load("EATA/eata.py", "eata")
  model = official.configure_model(net())
  params, _ = official.collect_params(model)
  fishers = None
  if fisher:
    # As the repository's main.py: squared gradients of batches, their mean.
    total = {}
    for x in (torch.tensor(inputs.batch(step)) for step in (8, 9)):
      logits = model(x)
      nn.CrossEntropyLoss()(logits, logits.max(1)[1]).backward()
      for name, param in model.named_parameters():
        if param.grad is not None:
          square = param.grad.clone() ** 2
          total[name] = total.get(name, 0) + square
          param.grad = None
    anchors = dict(model.named_parameters())
    fishers = {k: [v / 2, anchors[k].data.clone()] for k, v in total.items()}
  rule = torch.optim.SGD(params, 0.05, momentum=0.9)
  adapted = official.EATA(
    model, rule, fishers, 2.0, e_margin=MARGIN, d_margin=0.9
  )
  found = run(adapted, model)
  return found | {
    "probabilities": adapted.current_model_probs.numpy(),
    "counts": np.array(
      [adapted.num_samples_update_1, adapted.num_samples_update_2]
    ),
  }


def sar(reset=0.0):
  official = load("SAR/sar.py", "sar")
  sam = load("SAR/sam.py", "sam")
  model = official.configure_model(net())
  params, _ = official.collect_params(model)
  rule = sam.SAM(params, torch.optim.SGD, lr=0.05, momentum=0.9)
  adapted = official.SAR(model, rule, margin_e0=MARGIN)
  if reset:  # The code compares with 0.2 whatever it is told: scale its loss.
    plain = official.update_ema
    official.update_ema = lambda ema, new: plain(ema, new * 0.2 / reset)
  found = run(adapted, model)
  average = adapted.ema * (reset / 0.2 if reset else 1)
  return found | {"average": np.array(average)}


def alpha_bn():
  official = load("unmixtns/tta_experiments/methods/bn.py", "bn")
  model = net()
  adapted = official.AlphaBatchNorm.adapt_model(model, alpha=0.1).double()
  return {"logits": run(adapted, model)["logits"]}


def ema():
  official = load("unmixtns/tta_experiments/methods/bn.py", "bn")
  model = net()
  return run(official.EMABatchNorm.adapt_model(model), model)


def unmix_tns():
  official = load("unmixtns/tta_experiments/unmixtns.py", "unmixtns")
  drawn = iter(range(2))
  torch.randn_like = lambda a: torch.tensor(
    inputs.noise(next(drawn), tuple(a.shape))
  )
  model = official.replace_bn_layers(net(), K=4, bs=inputs.BATCH, bs_max=8)
  return run(model, model)


def lame(affinity="rbf"):
  package = types.ModuleType("lame_package")
  package.__path__ = []
  base = types.ModuleType("lame_package.non_adaptive")
  base.NonAdaptiveMethod = object
  build = types.ModuleType("lame_package.build")
  build.ADAPTER_REGISTRY = types.SimpleNamespace(register=lambda: lambda c: c)
  for module in (package, base, build):
    sys.modules[module.__name__] = module
  official = load("LAME/src/adaptation/lame.py", "lame_package.lame")
  kind = getattr(official, f"{affinity}_affinity")
  kernel = kind(sigma=1.0, knn=3) if affinity != "linear" else kind()
  model, found = net(), []
  for x in batches():
    with torch.no_grad():
      features = nn.functional.normalize(model.features(x), p=2, dim=-1)
      unary = -torch.log(model(x).softmax(-1) + 1e-10)
      # Its scatter makes a float32 matrix: what it holds is 0 and 1.
      w = kernel(features).double()
      found.append(official.laplacian_optimization(unary, w).numpy())
  return {"probabilities": np.stack(found)}


def _note_conf(**values):
  conf = types.ModuleType("conf")
  conf.args = types.SimpleNamespace(**values)
  sys.modules["conf"] = conf


def iabn():
  """The layer alone: training with gradients, then evaluation."""
  _note_conf(skip_thres=1, iabn_k=1.5)
  official = load("NOTE/utils/iabn.py", "iabn")
  width = inputs.WIDTHS[0]
  layer = official.InstanceAwareBatchNorm2d(width, k=1.5).double()
  values = inputs.uniform(7, (2, width), 0.5, 1.5)
  layer._bn.weight.data, layer._bn.bias.data = map(torch.tensor, values)
  found = {"y": [], "dx": [], "dscale": [], "dbias": []}
  for x in batches():
    x.requires_grad_(True)
    y = layer(x)
    weights = torch.tensor(inputs.uniform(9, tuple(y.shape)))
    pulled = torch.autograd.grad(
      (y * weights).sum(), (x, layer._bn.weight, layer._bn.bias)
    )
    for name, value in zip(found, (y, *pulled), strict=True):
      found[name].append(value.detach().numpy())
  layer.eval()
  return {
    **{name: np.stack(value) for name, value in found.items()},
    "evaluated": layer(batches()[1]).detach().numpy(),
    "mean": layer._bn.running_mean.numpy(),
    "var": layer._bn.running_var.numpy(),
  }


def _balanced(capacity, draws):
  """The official memory, with these draws: a row of `draws` per example."""
  official = load("NOTE/utils/memory.py", "memory")
  memory, now = official.PBRS(capacity), {}
  official.random = types.SimpleNamespace(
    choice=lambda items: items[int(now["class"] * len(items))],
    randrange=lambda least, most: int(now["place"] * most),
    uniform=lambda least, most: now["keep"],
  )
  rows = iter(draws)

  def add(example, label):
    names = ("class", "place", "keep")
    now.update(dict(zip(names, next(rows), strict=True)))
    memory.add_instance([example, label, 0, 0, 0])

  return memory, add


def note_memory(count=60, capacity=8):
  """Which examples the memory holds in the end, by number."""
  _note_conf(opt={"num_class": inputs.CLASSES})
  memory, add = _balanced(capacity, inputs.memory_draws(count))
  for number, label in enumerate(inputs.memory_labels(count)):
    add(number, int(label))
  numbers, labels, _ = memory.get_memory()
  return {"numbers": np.array(numbers), "labels": np.array(labels)}


def note(capacity=4):
  """As learner/note.py goes through a stream; an update after each batch."""
  _note_conf(skip_thres=1, iabn_k=1.0, opt={"num_class": inputs.CLASSES})
  layers = load("NOTE/utils/iabn.py", "iabn")
  entropy = load("NOTE/utils/loss_functions.py", "losses").HLoss()
  model = layers.convert_iabn(net()).double()
  model.requires_grad_(False)
  for module in model.modules():
    if isinstance(module, nn.BatchNorm2d):
      module.momentum = 0.1
    if isinstance(module, layers.InstanceAwareBatchNorm2d):
      module.requires_grad_(True)
  rule = torch.optim.Adam(model.parameters(), lr=0.01)
  draws = inputs.memory_draws(inputs.STEPS * inputs.BATCH)
  memory, add = _balanced(capacity, draws)
  found = []
  for x in batches():
    model.eval()
    with torch.no_grad():
      logits = model(x)
    found.append(logits.numpy())
    for example, label in zip(x, logits.max(1)[1], strict=True):
      add(example, int(label))
    model.train()
    loss = entropy(model(torch.stack(memory.get_memory()[0])))
    rule.zero_grad()
    loss.backward()
    rule.step()
  state = {k.replace("._bn", ""): v for k, v in model.state_dict().items()}
  kept = {k: v.numpy() for k, v in state.items() if ".1." in k}
  return {"logits": np.stack(found), **kept}


CASES = {
  "norm": norm,
  "tent": tent,
  "tent_two_steps": lambda: tent(steps=2),
  "tent_sgd": lambda: tent(sgd=True),
  "eata": eata,
  "eta": lambda: eata(fisher=False),
  "sar": sar,
  "sar_reset": lambda: sar(reset=0.4385),
  "alpha_bn": alpha_bn,
  "ema": ema,
  "unmix_tns": unmix_tns,
  "lame_rbf": lame,
  "lame_knn": lambda: lame("kNN"),
  "lame_linear": lambda: lame("linear"),
  "iabn": iabn,
  "note_memory": note_memory,
  "note": note,
}


if __name__ == "__main__":
  for case in sys.argv[1:] or CASES:
    arrays = CASES[case]()
    np.savez_compressed(HERE / f"{case}.npz", **arrays)
    print(case, {name: a.shape for name, a in arrays.items()})
