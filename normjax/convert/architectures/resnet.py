"""ResNets in timm's layout, which is torchvision's: He et al. 2015.

arXiv:1512.03385, with the stride in the 3 x 3 convolution. Read:
huggingface/pytorch-image-models (Apache-2.0), timm/models/resnet.py, and
pytorch/vision (BSD-3-Clause), torchvision/models/resnet.py.
"""

from typing import Any

import numpy as np
from flax import nnx

from normjax.convert import timm_config
from normjax.convert.architecture import Architecture
from normjax.convert.entries import Declared, Entry, Fixed
from normjax.convert.settings import Settings
from normjax.models import resnet

# timm's names; a basic block has two convolutions, a bottleneck three.
_REGISTERED: dict[str, dict[str, Any]] = {
  **{
    f"resnet{depth}": {"layers": counts}
    for depth, (_, counts) in resnet.DEPTHS.items()
  },
  "resnet26": {"layers": (2, 2, 2, 2)},
  "resnet200": {"layers": (3, 24, 36, 3)},
}
_BASIC = ("resnet18", "resnet34")
_DEPTH_OF = {2: 18, 3: 50}
_CHANNELS = (64, 128, 256, 512)
# Of both libraries, whatever the stages' channels are.
_STEM_WIDTH = 64
_STAGES, _EPS = 4, 1e-5


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  # torchvision's names are the same.
  theirs = timm_config.arguments(settings, _REGISTERED, _KNOWN)
  for key, allowed in _ONLY.items():
    theirs.only(key, *allowed)
  channels = _CHANNELS
  if "channels" in theirs:
    channels = timm_config.numbers(theirs, "channels")
  layers = timm_config.numbers(theirs, "layers")
  if channels != tuple(channels[0] * 2**i for i in range(len(channels))):
    theirs.refuse("channels", "models here double them from stage to stage")
  if len(layers) != _STAGES or len(channels) != _STAGES:
    theirs.refuse("layers", "timm has four stages")
  return "resnet", {
    "num_classes": theirs.count("num_classes"),
    "input_shape": timm_config.input_shape(theirs),
    "depth": 18 if settings.get("architecture") in _BASIC else 50,
    "blocks_per_stage": layers,
    "width": channels[0],
    "stem_width": _STEM_WIDTH,
    "norm": {"name": "batch_norm", "eps": _EPS},
  }


# What timm's class takes beside sizes, and what of it the zoo has.
_ONLY: dict[str, tuple[Any, ...]] = {
  "global_pool": ("avg",),
  "output_stride": (32,),
  "cardinality": (1,),
  "base_width": (64,),
  "stem_type": ("",),
  "replace_stem_pool": (False,),
  "block_reduce_first": (1,),
  "down_kernel_size": (1,),
  "avg_down": (False,),
  "act_layer": ("relu",),
  "norm_layer": ("batchnorm2d", "batchnorm"),
}
_KNOWN = (*_ONLY, "layers", "channels")


def _config(model: nnx.Module) -> dict[str, Any]:
  stages = _stages(model)
  layers = tuple(len(stage) for stage in stages)
  convs = len(stages[0][0][1].convs)
  width = stages[0][0][1].convs[0].conv.kernel.shape[-1]
  said: dict[str, Any] = {}
  depth = _DEPTH_OF[convs]
  name = next(
    (
      name
      for name, own in _REGISTERED.items()
      if own["layers"] == layers and (name in _BASIC) == (convs == 2)
    ),
    f"resnet{depth}",
  )
  if _REGISTERED[name]["layers"] != layers:
    said["layers"] = layers
  channels = tuple(width * 2**i for i in range(len(layers)))
  if channels != _CHANNELS:
    said["channels"] = channels
  kernel = model.stem.conv.kernel
  return timm_config.written(
    name,
    # Any size will do; this one is what they are trained on.
    (224, 224, kernel.shape[2]),
    model.head.out_features,
    "conv1",
    "fc",
    **said,
  )


def _stages(model: nnx.Module) -> list[list[tuple[int, Any]]]:
  """(index, block) of each stage; a stride begins one."""
  stages: list[list[tuple[int, Any]]] = []
  for index, block in enumerate(model.layers):
    if not index or block.stride > 1:
      stages.append([])
    stages[-1].append((index, block))
  return stages


def _entries(model: nnx.Module) -> Declared:
  found = [
    *_conv_norm("stem", "conv1", "bn1"),
    Entry("head/kernel", "fc.weight", "o i -> i o"),
    Entry("head/bias", "fc.bias"),
  ]
  for number, stage in enumerate(_stages(model), 1):
    for place, (index, block) in enumerate(stage):
      ours, theirs = f"layers/{index}", f"layer{number}.{place}"
      for i in range(len(block.convs)):
        found += _conv_norm(
          f"{ours}/convs/{i}", f"{theirs}.conv{i + 1}", f"{theirs}.bn{i + 1}"
        )
      if block.project is not None:
        shortcut = f"{theirs}.downsample"
        found += _conv_norm(f"{ours}/project", f"{shortcut}.0", f"{shortcut}.1")
  return found


def _conv_norm(ours: str, conv: str, norm: str) -> Declared:
  leaves = {
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
  }
  return [
    Entry(f"{ours}/conv/kernel", f"{conv}.weight", "o i y x -> y x i o"),
    *(
      Entry(f"{ours}/norm/norm/{leaf}", f"{norm}.{theirs}")
      for leaf, theirs in leaves.items()
    ),
    # For a momentum of None, which neither library has.
    Fixed(f"{norm}.num_batches_tracked", np.zeros((), np.int64)),
  ]


ARCHITECTURE = Architecture(
  name="resnet",
  answers_to=("resnet[0-9]*",),
  models=("resnet",),
  options=_options,
  config=_config,
  entries=_entries,
)
