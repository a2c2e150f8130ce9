"""NFNets and NF-ResNets in timm's layout: Brock et al. 2021.

arXiv:2101.08692 and arXiv:2102.06171. Read:
huggingface/pytorch-image-models (Apache-2.0), timm/models/nfnet.py. Its
dm_nfnet_* are the authors' networks; the others have the gain of the activation
in the kernels, and PyTorch's padding.
"""

from typing import Any

from flax import nnx

from normjax import errors
from normjax.convert import saying, timm_config
from normjax.convert.architecture import Architecture
from normjax.convert.entries import Declared, Entry
from normjax.convert.settings import Settings
from normjax.models import nf_resnet, standardized

_DEFAULTS: dict[str, Any] = {
  "alpha": 0.2,
  "attn_layer": None,
  "attn_kwargs": {},
  "ch_div": 8,
  "gamma_in_act": False,
  "same_padding": False,
  "skipinit": False,
  "std_conv_eps": 1e-5,
  "width_factor": 1.0,
}
_NFNET: dict[str, Any] = {
  **_DEFAULTS,
  "channels": (256, 512, 1536, 1536),
  "stem_type": "deep_quad",
  "stem_chs": 128,
  "group_size": 128,
  "bottle_ratio": 0.5,
  "extra_conv": True,
  "num_features": 3072,
  "act_layer": "gelu",
  "attn_layer": "se",
  "attn_kwargs": {"rd_ratio": 0.5},
}
_NF_RESNET: dict[str, Any] = {
  **_DEFAULTS,
  "channels": (256, 512, 1024, 2048),
  "stem_type": "7x7_pool",
  "stem_chs": 64,
  "group_size": None,
  "bottle_ratio": 0.25,
  "extra_conv": False,
  "num_features": 0,
  "act_layer": "relu",
}
_DEEPMIND = {"gamma_in_act": True, "same_padding": True, "skipinit": True}
_SQUEEZED = {"attn_layer": "se", "attn_kwargs": {"rd_ratio": 1 / 16}}
_LIGHT = {
  "group_size": 64,
  "bottle_ratio": 0.25,
  "num_features": 2304,
  "act_layer": "silu",
  "attn_kwargs": {"rd_ratio": 0.25},
}
_F = {f"f{n}": tuple(d * (n + 1) for d in (1, 2, 6, 3)) for n in range(8)}
_RESNETS = {
  "26": (2, 2, 2, 2),
  **{str(depth): nf_resnet.DEPTHS[depth] for depth in (50, 101)},
}
_REGISTERED: dict[str, dict[str, Any]] = {
  **{f"nfnet_{f}": {**_NFNET, "depths": d} for f, d in _F.items()},
  **{
    f"dm_nfnet_{f}": {**_NFNET, **_DEEPMIND, "depths": d}
    for f, d in _F.items()
    if f != "f7"
  },
  "nfnet_l0": {**_NFNET, **_LIGHT, "depths": _F["f0"]},
  **{f"nf_resnet{n}": {**_NF_RESNET, "depths": d} for n, d in _RESNETS.items()},
  **{
    f"nf_seresnet{n}": {**_NF_RESNET, **_SQUEEZED, "depths": d}
    for n, d in _RESNETS.items()
  },
}
# What else timm's class takes, and what of it the zoo has.
_ONLY: dict[str, tuple[Any, ...]] = {
  "global_pool": ("avg",),
  "output_stride": (32,),
  "attn_gain": (2.0, 2),
  "width_factor": (1.0, 1),
  "reg": (False,),
}
_KNOWN = (*_NFNET, *_ONLY, "depths")
# timm's "gelu" is the form with erf, and has the gain of the other.
_ACTIVATIONS = {
  "gelu": "gelu_exact",
  **{name: name for name in ("celu", "elu", "relu", "relu6", "selu", "silu")},
}


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  theirs = timm_config.arguments(settings, _REGISTERED, _KNOWN)
  for key, allowed in _ONLY.items():
    theirs.only(key, *allowed)
  build = theirs.choice(
    "stem_type", {"deep_quad": _nfnet_options, "7x7_pool": _nf_resnet_options}
  )
  channels = timm_config.numbers(theirs, "channels")
  depths = timm_config.numbers(theirs, "depths")
  if len(depths) != len(channels):
    theirs.refuse("depths", f"needed: one number for each of {channels}")
  in_activations = theirs.flag("gamma_in_act")
  name, options = build(theirs, channels)
  return name, {
    "num_classes": theirs.count("num_classes"),
    "input_shape": timm_config.input_shape(theirs),
    "blocks_per_stage": depths,
    "alpha": theirs.number("alpha"),
    "skip_init": theirs.flag("skipinit"),
    "se_ratio": _se_ratio(theirs, channels),
    "activation": theirs.choice("act_layer", _ACTIVATIONS),
    "activation_gain_in": "activations" if in_activations else "kernels",
    "weight_standardization": "added",
    "weight_standardization_eps": theirs.number("std_conv_eps"),
    "padding": "same" if theirs.flag("same_padding") else "half",
    # Of training: timm's own drop path rescales what it keeps.
    "stochastic_depth_rate": 0.0,
    "dropout_rate": 0.0,
    "norm": {"name": "identity"},
    **options,
  }


def _nfnet_options(
  theirs: Settings, channels: tuple[int, ...]
) -> tuple[str, dict[str, Any]]:
  theirs.only("extra_conv", True)
  stem = theirs.count("stem_chs", channels[0])
  expansion = theirs.number("bottle_ratio", most=1e6)
  divisor = theirs.count("ch_div")
  for width in (*channels, stem):
    if width % divisor or (width * expansion) % divisor:
      theirs.refuse(
        "ch_div",
        f"models here do not round channels, and {expansion} of {width} would"
        " be",
      )
  return "nfnet", {
    "widths": channels,
    "group_size": theirs.count("group_size"),
    "expansion": expansion,
    "stem_channels": tuple(stem // part for part in (8, 4, 2, 1)),
    "final_expansion": theirs.count("num_features") / channels[-1],
  }


def _nf_resnet_options(
  theirs: Settings, channels: tuple[int, ...]
) -> tuple[str, dict[str, Any]]:
  theirs.only("extra_conv", False)
  theirs.only("bottle_ratio", 0.25)
  theirs.only("group_size")
  theirs.only("num_features", 0)
  # timm's maximum is padded by one on each side, whatever its convolutions are.
  theirs.only("same_padding", False)
  width = max(channels[0] // 64, 1)
  ours = tuple(64 * width * 2**i for i in range(len(channels)))
  if channels != ours:
    theirs.refuse("channels", f"the nearest that models here have are {ours}")
  if theirs.get("stem_chs", channels[0]) != 16 * width:
    theirs.refuse("stem_chs", f"with these channels it must be {16 * width}")
  return "nf_resnet", {
    "width": width,
    "stem_bias": True,
    "pool_shortcut": True,
  }


def _se_ratio(theirs: Settings, channels: tuple[int, ...]) -> float | None:
  if "attn_layer" not in theirs:
    return None
  theirs.only("attn_layer", "se")
  said = theirs.block("attn_kwargs")
  values = {"rd_ratio": 1 / 16, "rd_divisor": 8}
  said = Settings(
    values | (dict(said.values) if said else {}),
    theirs.where,
    "model_args.attn_kwargs.",
  )
  for key in said.values:
    if key not in values:
      said.refuse(key, f"allowed: {', '.join(values)}")
  ratio, divisor = said.number("rd_ratio"), said.count("rd_divisor")
  for width in channels:
    hidden = width * ratio
    rounded = max(divisor, int(hidden + divisor / 2) // divisor * divisor)
    if rounded != max(1, int(hidden)):
      said.refuse(
        "rd_divisor",
        f"models here do not round what a gate squeezes to, and {ratio} of"
        f" {width} would be",
      )
  return ratio


def _config(model: nnx.Module) -> dict[str, Any]:
  said = _arguments(model)
  said = {**(_NFNET if said["extra_conv"] else _NF_RESNET), **said}

  def unlike(name: str) -> dict[str, Any]:
    own = _REGISTERED[name]
    return {key: value for key, value in said.items() if value != own[key]}

  name = min(_REGISTERED, key=lambda name: len(unlike(name)))
  return timm_config.written(
    name,
    # Any size will do; this one is what they are trained on.
    (224, 224, model.stem.convs[0].kernel.shape[2]),
    model.head.out_features,
    _stem_names(model)[0],
    "head.fc",
    **unlike(name),
  )


def _arguments(model: nnx.Module) -> dict[str, Any]:
  """What timm would call its class with."""
  stages = _stages(model)
  branch = model.layers[0].branch
  channels = tuple(stage[0][1].conv_out.kernel.shape[-1] for stage in stages)
  gate = {}
  if branch.se_ratio is not None:
    divisible = all(width * branch.se_ratio % 8 == 0 for width in channels)
    gate = {"rd_ratio": branch.se_ratio}
    gate |= {} if divisible else {"rd_divisor": 1}
  final = model.conv_final
  act_layer, gamma_in_act = _activation(branch)
  return {
    "depths": tuple(map(len, stages)),
    "channels": channels,
    "stem_chs": model.stem.convs[-1].kernel.shape[-1],
    "group_size": branch.group_size,
    "bottle_ratio": branch.expansion,
    "extra_conv": branch.num_inner == 2,
    "num_features": 0 if final is None else final.kernel.shape[-1],
    "alpha": branch.alpha,
    "skipinit": branch.skip_init,
    "attn_layer": "se" if gate else None,
    "attn_kwargs": gate,
    "act_layer": act_layer,
    "gamma_in_act": gamma_in_act,
    "std_conv_eps": branch.convs.eps,
    "same_padding": branch.convs.padding == "same",
  }


def _activation(branch: Any) -> tuple[str, bool]:
  """Their name of it, and whether it has its gain itself."""
  theirs = {ours: name for name, ours in _ACTIVATIONS.items()}
  for name, where, activation in standardized.known_activations():
    if activation == branch.activation:
      return saying.word("activation", theirs, name), where == "activations"
  raise errors.UserError(
    "its activation_gain is 'exact'; timm has the official ones"
  )


def _stages(model: nnx.Module) -> list[list[tuple[int, Any]]]:
  """(index, block) of each stage; a stride begins one."""
  stages: list[list[tuple[int, Any]]] = []
  for index, block in enumerate(model.layers):
    if not index or block.conv_inner[0].stride > 1:
      stages.append([])
    stages[-1].append((index, block))
  return stages


def _stem_names(model: nnx.Module) -> list[str]:
  count = len(model.stem.convs)
  if count == 1:
    return ["stem.conv"]
  return [f"stem.conv{i + 1}" for i in range(count)]


def _entries(model: nnx.Module) -> Declared:
  found: Declared = [
    Entry("head/kernel", "head.fc.weight", "o i -> i o"),
    Entry("head/bias", "head.fc.bias"),
  ]
  for i, theirs in enumerate(_stem_names(model)):
    found += _conv(f"stem/convs/{i}", theirs)
  if model.conv_final is not None:
    found += _conv("conv_final", "final_conv")
  for number, stage in enumerate(_stages(model)):
    for place, (index, block) in enumerate(stage):
      found += _block(block, f"layers/{index}", f"stages.{number}.{place}")
  return found


def _block(block: Any, ours: str, theirs: str) -> Declared:
  found = [
    *_conv(f"{ours}/conv_in", f"{theirs}.conv1"),
    *_conv(f"{ours}/conv_inner/0", f"{theirs}.conv2"),
    *_conv(f"{ours}/conv_out", f"{theirs}.conv3"),
  ]
  if len(block.conv_inner) == 2:
    found += _conv(f"{ours}/conv_inner/1", f"{theirs}.conv2b")
  if block.conv_shortcut is not None:
    found += _conv(f"{ours}/conv_shortcut", f"{theirs}.downsample.conv")
  if block.skip_gain is not None:
    found.append(Entry(f"{ours}/skip_gain", f"{theirs}.skipinit_gain"))
  if block.gate is not None:
    for leaf, layer in {"squeeze": "fc1", "excite": "fc2"}.items():
      gate, name = f"{ours}/gate/{leaf}", f"{theirs}.attn_last.{layer}"
      found += [
        Entry(f"{gate}/kernel", f"{name}.weight", "o i 1 1 -> i o"),
        Entry(f"{gate}/bias", f"{name}.bias"),
      ]
  return found


def _conv(ours: str, theirs: str) -> Declared:
  return [
    Entry(f"{ours}/kernel", f"{theirs}.weight", "o i y x -> y x i o"),
    Entry(f"{ours}/bias", f"{theirs}.bias"),
    Entry(f"{ours}/weight_norm/gain", f"{theirs}.gain", "o 1 1 1 -> o"),
  ]


ARCHITECTURE = Architecture(
  name="nfnet",
  answers_to=("nfnet_*", "dm_nfnet_*", "nf_resnet*", "nf_seresnet*"),
  models=("nfnet", "nf_resnet"),
  options=_options,
  config=_config,
  entries=_entries,
)
