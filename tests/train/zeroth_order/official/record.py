"""Records steps of MeZO: z, projected gradients, and weights in place.

    MEZO_CHECKOUT=FOLDER python tests/train/zeroth_order/official/record.py

To be run by hand, by an interpreter with torch. FOLDER is a checkout of
github.com/princeton-nlp/MeZO (MIT; 552cb1b was run). `steps.npz` has what its
methods `zo_step` and `zo_update` of large_models/trainer.py gave, in float64
and in bfloat16; nothing of the code is kept. Their class is a trainer of a
library that has nothing to do with them: the methods are taken out of it.
"""

import ast
import os
import pathlib
import types

import inputs
import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
METHODS = ("zo_perturb_parameters", "zo_step", "zo_update", "zo_forward")


def methods():
  """The functions of these names, from the file."""
  path = pathlib.Path(os.environ["MEZO_CHECKOUT"]) / "large_models/trainer.py"
  found = [
    node
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef) and node.name in METHODS
  ]
  assert len(found) == len(METHODS)
  known = {"torch": torch, "np": np}
  exec(compile(ast.Module(found, []), str(path), "exec"), known)
  return {name: known[name] for name in METHODS}


class Model(torch.nn.Module):
  """A hidden layer of tanh, and a head."""

  def __init__(self):
    super().__init__()
    self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 5)])
    self.head = torch.nn.Linear(5, 4)

  def forward(self, x):
    return self.head(torch.tanh(self.layers[0](x)))

  def ordered(self):
    """Parameters in the order of `inputs.PATHS`."""
    own = dict(self.named_parameters())
    return [(name, own[name]) for name in inputs.PATHS]


class Trainer:
  """What the methods ask of the class that they are taken from."""

  def __init__(self, dtype, weight_decay):
    self.model = Model().to(dtype)
    with torch.no_grad():
      for name, value in inputs.params().items():
        param = dict(self.model.named_parameters())[name]
        param.copy_(torch.as_tensor(value))
    x, y = inputs.batch()
    self.batch = torch.as_tensor(x).to(dtype), torch.as_tensor(y)
    self.args = types.SimpleNamespace(
      zo_eps=inputs.EPS,
      weight_decay=weight_decay,
      non_diff=False,
      n_gpu=1,
      gradient_accumulation_steps=1,
    )
    self.lr_scheduler = types.SimpleNamespace(step=lambda: None)

  def _get_learning_rate(self):
    return inputs.RATE

  def _prepare_inputs(self, given):
    return given

  def compute_loss_context_manager(self):
    return torch.inference_mode(False)

  def compute_loss(self, model, given):
    x, y = given
    with torch.no_grad():
      return torch.nn.functional.cross_entropy(model(x), y)


for _name, _method in methods().items():
  setattr(Trainer, _name, _method)


def directions(seed, dtype, parameters):
  """Z as the walk draws it from a seed."""
  torch.manual_seed(seed)
  return {
    name: torch.normal(mean=0, std=1, size=p.data.size(), dtype=dtype)
    for name, p in parameters
  }


def walked(dtype, weight_decay=0.0):
  """What each step gave, by name and step."""
  np.random.seed(0)
  trainer, found = Trainer(dtype, weight_decay), {}
  for step in range(inputs.NUM_STEPS):
    before = [p.detach().clone() for _, p in trainer.model.named_parameters()]
    found[f"loss/{step}"] = trainer.zo_step(trainer.model, trainer.batch)
    after = [p for _, p in trainer.model.named_parameters()]
    # In units of the weights: what the walk leaves behind.
    error = sum(
      ((a - b).double() ** 2).sum() for a, b in zip(after, before, strict=True)
    )
    size = sum((b.double() ** 2).sum() for b in before)
    found[f"drift/{step}"] = (error / size).sqrt()
    found[f"slope/{step}"] = torch.tensor(
      trainer.projected_grad, dtype=torch.float64
    )
    drawn = directions(
      trainer.zo_random_seed, dtype, trainer.named_parameters_to_optim
    )
    found |= {f"z/{step}/{name}": z for name, z in drawn.items()}
    trainer.zo_update(trainer.model)
    for name, param in trainer.model.named_parameters():
      found[f"params/{step}/{name}"] = param.detach()
  return {
    name: value.detach().double().numpy() for name, value in found.items()
  }


def main():
  """Writes the file."""
  kept = {f"float64/{k}": v for k, v in walked(torch.float64).items()}
  decayed = walked(torch.float64, weight_decay=0.1)
  kept |= {
    f"decayed/{k}": v
    for k, v in decayed.items()
    if k.startswith(("params/", "slope/"))
  }
  for dtype in (torch.float32, torch.float16, torch.bfloat16):
    name = str(dtype).removeprefix("torch.")
    narrow = walked(dtype)
    kept |= {f"{name}/{k}": v for k, v in narrow.items() if "drift" in k}
    print(name, [float(narrow[f"drift/{n}"]) for n in range(inputs.NUM_STEPS)])
  print({k: float(v) for k, v in kept.items() if not v.ndim})
  np.savez_compressed(HERE / "steps.npz", **kept)


if __name__ == "__main__":
  main()
