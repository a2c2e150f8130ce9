"""Records what the authors' norm removal computes: arXiv:2507.02559.

    NORMJAX_REMOVING_LAYER_NORM=CHECKOUT python record_removal.py

with torch, and a checkout of github.com/submarat/removing-layer-norm (583a9e6;
its README says MIT). The two classes are taken out of train.py: what else that
imports is not needed for them. Its switches are on where they make it do what
the paper says; the average is of calls with norms, as there.
"""

import ast
import os
import types
from pathlib import Path

import numpy as np
import torch

SWITCHES = (
  "EXP_CORRECT_BOS",
  "EXP_RECOMPUTE_STD_ON_REAL",
  "EXP_NON_BOS_AVERAGE_STD",
)
B, T, D, CALLS = 2, 5, 8, 4
END = 50256


class _Annotation:
  """Of a type, which nothing reads."""

  def __class_getitem__(cls, _):
    return cls


def classes(checkout: Path) -> dict:
  """FakeLayerNorm and CustomTrainer, as they stand."""
  tree = ast.parse((checkout / "train.py").read_text())
  wanted = ("FakeLayerNorm", "CustomTrainer")
  tree.body = [n for n in tree.body if getattr(n, "name", "") in wanted]
  space = {
    "nn": torch.nn,
    "F": torch.nn.functional,
    "torch": torch,
    "os": os,
    "Float": _Annotation,
    "Tensor": None,
    "Trainer": object,
    "device": torch.device("cpu"),
    "_USE_WANDB": False,
  }
  exec(compile(tree, "train.py", "exec"), space)
  return space


def main() -> None:
  """Writes removal.npz beside this file."""
  for name in SWITCHES:
    os.environ[name] = "1"
  space = classes(Path(os.environ["NORMJAX_REMOVING_LAYER_NORM"]))
  torch.set_default_dtype(torch.float64)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(CALLS, B, T, D)) * rng.uniform(0.5, 3, (1, 1, T, 1))
  x[:, :, 0] *= 5
  scale, bias = rng.normal(size=(2, D))
  norm = space["FakeLayerNorm"](
    D, T, "h", True, 2.0, 7.0, momentum=0.9, bos_special_treatment=True
  )
  norm.weight.data, norm.bias.data = map(torch.tensor, (scale, bias))
  given = torch.tensor(x)
  with torch.no_grad():
    real = [norm(each).numpy() for each in given[:3]]
    std, first = norm.real_average_std_prop, norm.real_bos_std_prop
    norm.is_fake_prop = True
    fake = norm(given[3]).numpy()
    value = norm(given[3], attn_v=True).numpy()
    norm.disable_bos_special_treatment()
    alike = norm(given[3]).numpy()
    # The call for values, which still have their norm, moved the average.
    alike_std = norm.average_std_buffer[1].numpy()
  tokens = torch.tensor(rng.integers(0, 9, (B, T)))
  tokens[1, 3] = END
  trainer = space["CustomTrainer"].__new__(space["CustomTrainer"])
  trainer.aux_loss_weight, trainer._use_wandb = 0.1, False
  stream = given[0].clone().requires_grad_()
  trainer.pre_ln_f_activations = stream
  loss = trainer.compute_loss(
    lambda input_ids: types.SimpleNamespace(loss=torch.tensor(0.0)),
    {"input_ids": tokens},
  )
  loss.backward()
  np.savez_compressed(
    Path(__file__).parent / "removal.npz",
    x=x,
    scale=scale,
    bias=bias,
    real=np.stack(real),
    std=std,
    first_std=first,
    fake=fake,
    value=value,
    alike=alike,
    alike_std=alike_std,
    is_end=(tokens == END).numpy(),
    loss=loss.detach().numpy(),
    gradient=stream.grad.numpy(),
  )


if __name__ == "__main__":
  main()
