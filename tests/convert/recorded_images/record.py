"""Records what timm, transformers and torchvision compute of small models.

    <python with torch, timm, transformers and torchvision> record.py [CASE…]

Written, per case, beside this file: CASE.json with the config.json that the
library writes, its tensors' names and shapes, and the logits of two images as
it computes them in float64, of the weights that `drawn.py` draws. And
sizes.json: for released sizes the number of parameters, and a digest of all
names and shapes.
"""

import json
import sys
import tempfile
from pathlib import Path

import drawn
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from timm.models import _hub

HERE = Path(__file__).parent
_SMALL_VIT = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 4}
_SMALL_NFNET = {
  "depths": (1, 2),
  "channels": (32, 64),
  "stem_chs": 64,
  "group_size": 8,
  "num_features": 96,
}


def _vit(name="vit_base_patch16_224", size=(8, 12), **arguments):
  given = {**_SMALL_VIT, "img_size": size, **arguments}
  return timm.create_model(name, num_classes=5, **given), (*size, 3)


def _hf_vit():
  config = transformers.ViTConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    image_size=8,
    patch_size=4,
    num_labels=5,
    layer_norm_eps=1e-3,
  )
  return transformers.ViTForImageClassification(config), (8, 8, 3)


def _resnet(name, **arguments):
  # Odd sides: where a stride of 2 begins shows.
  given = {"layers": (2, 1, 1, 1), "channels": (4, 8, 16, 32), **arguments}
  model = timm.create_model(name, num_classes=5, **given)
  return model, (33, 27, arguments.get("in_chans", 3))


def _nfnet(name, **arguments):
  given = {**_SMALL_NFNET, **arguments}
  return timm.create_model(name, num_classes=5, **given), (28, 34, 3)


def _nf_resnet(name, **arguments):
  given = {"depths": (1, 1), "channels": (64, 128), "stem_chs": 16}
  given |= arguments
  return timm.create_model(name, num_classes=5, **given), (30, 33, 3)


CASES = {
  "hf_vit": _hf_vit,
  "timm_vit": _vit,
  "timm_vit_mean": lambda: _vit(global_pool="avg", act_layer="gelu_tanh"),
  # The first form of pooling by means: no class token, the norm before.
  "timm_vit_gap": lambda: _vit(
    global_pool="avg", class_token=False, fc_norm=False, init_values=0.1
  ),
  "timm_resnet18": lambda: _resnet("resnet18"),
  "timm_resnet50": lambda: _resnet("resnet50", in_chans=1),
  "dm_nfnet_f0": lambda: _nfnet("dm_nfnet_f0"),
  "nfnet_f0": lambda: _nfnet("nfnet_f0"),
  "nfnet_l0": lambda: _nfnet("nfnet_l0", std_conv_eps=1e-2),
  "nf_resnet50": lambda: _nf_resnet("nf_resnet50"),
  "nf_seresnet50": lambda: _nf_resnet(
    "nf_seresnet50", attn_kwargs={"rd_ratio": 1 / 8}
  ),
}
RELEASED = {
  "timm": (
    *(f"resnet{depth}" for depth in (18, 26, 34, 50, 101, 152)),
    *(f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")),
    "vit_huge_patch14_224",
    "deit_small_patch16_224",
    *(f"dm_nfnet_f{n}" for n in range(3)),
    *("nfnet_f0", "nfnet_f7", "nfnet_l0", "nf_resnet26", "nf_resnet50"),
    "nf_seresnet101",
  ),
  "torchvision": tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
}


def shapes(model):
  return {name: list(value.shape) for name, value in model.state_dict().items()}


def logits(model, shape):
  """Of two images, (b, classes), float64."""
  images = torch.tensor(drawn.images((2, *shape))).double()
  with torch.no_grad():
    found = model.double().eval()(images.permute(0, 3, 1, 2))
  return getattr(found, "logits", found)


def save(model, folder):
  """As its library does."""
  if hasattr(model, "save_pretrained"):
    model.save_pretrained(folder)
  else:
    _hub.save_for_hf(model, folder, safe_serialization=True)


def load(folder):
  """As the library that the folder is of does."""
  if "architecture" in json.loads((Path(folder) / "config.json").read_text()):
    return timm.create_model(f"local-dir:{folder}", pretrained=True)
  return transformers.ViTForImageClassification.from_pretrained(folder)


def record(case):
  model, shape = CASES[case]()
  with tempfile.TemporaryDirectory() as folder:
    save(model, folder)
    config = json.loads((Path(folder) / "config.json").read_text())
    file = Path(folder) / "model.safetensors"
    tensors = {
      name: list(value.shape) for name, value in load_file(file).items()
    }
    drawn_ones = {
      name: torch.tensor(drawn.tensor(name, tuple(size)))
      for name, size in tensors.items()
    }
    save_file(drawn_ones, file, {"format": "pt"})
    found = logits(load(folder), shape)
  said = {
    "config": config,
    "tensors": tensors,
    "images": [2, *shape],
    "logits": found.tolist(),
  }
  (HERE / f"{case}.json").write_text(json.dumps(said) + "\n")


def record_sizes():
  makers = {
    "timm": lambda name: timm.create_model(name, num_classes=1000),
    "torchvision": lambda name: torchvision.models.get_model(name),
  }
  said = {}
  for library, names in RELEASED.items():
    for name in names:
      with torch.device("meta"):
        model = makers[library](name)
      found = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "digest": drawn.digest(shapes(model)),
      }
      said[f"{library}/{name}"] = found
  (HERE / "sizes.json").write_text(json.dumps(said, indent=1) + "\n")


def main(names):
  for case in names or CASES:
    record(case)
  if not names:
    record_sizes()


if __name__ == "__main__":
  main(sys.argv[1:])
