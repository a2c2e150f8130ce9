"""Vision transformers in transformers' and in timm's layout.

Dosovitskiy et al. 2020, arXiv:2010.11929. Read: huggingface/transformers
(Apache-2.0), models/vit; huggingface/pytorch-image-models (Apache-2.0),
timm/models/vision_transformer.py.
"""

import math
from typing import Any

from flax import nnx

from normjax.convert import saying, timm_config
from normjax.convert.architecture import Architecture
from normjax.convert.entries import Declared, Entry
from normjax.convert.settings import Settings

# Their names to ours: "gelu" is the form with erf.
_ACTIVATIONS = {
  "gelu": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "relu": "relu",
}
_TIMM_ACTIVATIONS = {"gelu": "gelu_exact", "gelu_tanh": "gelu", "relu": "relu"}
_TIMM_EPS = 1e-6


# ----- transformers -----


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  settings.only("qkv_bias", True)
  height, width = timm_config.pair(settings, "image_size", 224)
  labels = settings.block("id2label")
  return "vit", {
    "num_classes": (
      settings.count("num_labels", 2) if labels is None else len(labels.values)
    ),
    "input_shape": (height, width, settings.count("num_channels", 3)),
    "patch_size": timm_config.side(settings, "patch_size", 16),
    "num_layers": settings.count("num_hidden_layers", 12),
    "num_heads": settings.count("num_attention_heads", 12),
    "model_dim": settings.count("hidden_size", 768),
    "hidden_dim": settings.count("intermediate_size", 3072),
    "activation": settings.choice("hidden_act", _ACTIVATIONS, "gelu"),
    "norm": {
      "name": "layer_norm",
      "eps": settings.number("layer_norm_eps", 1e-12),
    },
  }


def _config(model: nnx.Module) -> dict[str, Any]:
  height, width, channels = model.input_shape
  block, classes = model.layers[0], model.head.out_features
  return {
    "architectures": ["ViTForImageClassification"],
    "model_type": "vit",
    "image_size": height if height == width else [height, width],
    "num_channels": channels,
    "patch_size": model.patch_conv.kernel_size[0],
    "num_hidden_layers": len(model.layers),
    "num_attention_heads": block.attention.query.out_features[0],
    "hidden_size": model.patch_conv.out_features,
    "intermediate_size": block.feed_forward.up.out_features,
    "hidden_act": _theirs(_ACTIVATIONS, block),
    "layer_norm_eps": saying.norm_option(model.final_norm, "layer_norm", "eps"),
    "qkv_bias": True,
    "hidden_dropout_prob": model.dropout_rate,
    "attention_probs_dropout_prob": 0.0,
    "id2label": {str(i): f"LABEL_{i}" for i in range(classes)},
    "label2id": {f"LABEL_{i}": i for i in range(classes)},
  }


def _entries(model: nnx.Module) -> Declared:
  embeddings = "vit.embeddings"
  found = [
    *_ends(
      patch=f"{embeddings}.patch_embeddings.projection",
      token=f"{embeddings}.cls_token" if model.has_class_token else None,
      positions=f"{embeddings}.position_embeddings",
      norm="vit.layernorm",
      head="classifier",
    )
  ]
  for index, block in enumerate(model.layers):
    theirs = f"vit.encoder.layer.{index}"
    found += _block(block, f"layers/{index}", theirs, _TRANSFORMERS_NAMES)
    heads = _heads(block)
    for reader in ("query", "key", "value"):
      ours = f"layers/{index}/attention/{reader}"
      name = f"{theirs}.attention.attention.{reader}"
      found += [
        Entry(f"{ours}/kernel", f"{name}.weight", "(h k) d -> d h k", **heads),
        Entry(f"{ours}/bias", f"{name}.bias", "(h k) -> h k", **heads),
      ]
  return found


_TRANSFORMERS_NAMES = {
  "attention_input_norm": "layernorm_before",
  "feed_forward_input_norm": "layernorm_after",
  "attention/out": "attention.output.dense",
  "feed_forward/up": "intermediate.dense",
  "feed_forward/down": "output.dense",
}


# ----- timm -----

_SIZES = {
  "tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
  "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
  "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
  "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
  "huge": {"embed_dim": 1280, "depth": 32, "num_heads": 16},
}
# Patches and images of each size that timm has a name for.
_NAMED = {
  "vit_tiny": ("16_224", "16_384"),
  "vit_small": ("32_224", "32_384", "16_224", "16_384", "8_224"),
  "vit_base": ("32_224", "32_384", "16_224", "16_384", "8_224"),
  "vit_large": ("32_224", "32_384", "16_224", "16_384", "14_224"),
  "vit_huge": ("14_224",),
  "deit_tiny": ("16_224",),
  "deit_small": ("16_224",),
  "deit_base": ("16_224", "16_384"),
}
_REGISTERED: dict[str, dict[str, Any]] = {
  f"{name}_patch{end}": {
    **_SIZES[name.partition("_")[2]],
    "patch_size": int(end.partition("_")[0]),
    "img_size": int(end.partition("_")[2]),
  }
  for name, ends in _NAMED.items()
  for end in ends
}
# What else timm's class takes, and what of it the zoo has.
_ONLY: dict[str, tuple[Any, ...]] = {
  "qkv_bias": (True,),
  "proj_bias": (True,),
  "qk_norm": (False,),
  "scale_attn_norm": (False,),
  "scale_mlp_norm": (False,),
  "pos_embed": ("learn",),
  "no_embed_class": (False,),
  "reg_tokens": (0,),
  "pre_norm": (False,),
  "final_norm": (True,),
  "pool_include_prefix": (False,),
  "norm_layer": ("layernorm",),
  # Of images of other sizes.
  "dynamic_img_size": (False, True),
  "dynamic_img_pad": (False,),
}
_KNOWN = (
  *_ONLY,
  "img_size",
  "patch_size",
  "embed_dim",
  "depth",
  "num_heads",
  "mlp_ratio",
  "act_layer",
  "class_token",
  "global_pool",
  "fc_norm",
  "init_values",
)
_POOLING = {"token": "class_token", "avg": "mean"}


def _timm_options(settings: Settings) -> tuple[str, dict[str, Any]]:
  theirs = timm_config.arguments(settings, _REGISTERED, _KNOWN)
  for key, allowed in _ONLY.items():
    theirs.only(key, *allowed)
  pooling = theirs.choice("global_pool", _POOLING, "token")
  d, initial = theirs.count("embed_dim"), theirs.get("init_values", 0.0)
  scaled = bool(initial and theirs.number("init_values"))
  return "vit", {
    "num_classes": theirs.count("num_classes"),
    "input_shape": timm_config.input_shape(theirs),
    "patch_size": timm_config.side(theirs, "patch_size"),
    "num_layers": theirs.count("depth"),
    "num_heads": theirs.count("num_heads"),
    "model_dim": d,
    "hidden_dim": int(d * theirs.number("mlp_ratio", 4.0, most=1e6)),
    "activation": theirs.choice("act_layer", _TIMM_ACTIVATIONS, "gelu"),
    "pooling": pooling,
    "has_class_token": theirs.flag("class_token", True),
    "norm_after_pooling": theirs.flag("fc_norm", pooling == "mean"),
    # The gains are read; what they began with says that there are some.
    "residual": "layer_scale" if scaled else "none",
    "norm": {"name": "layer_norm", "eps": _TIMM_EPS},
  }


def _timm_config(model: nnx.Module) -> dict[str, Any]:
  height, width, _ = model.input_shape
  block, d = model.layers[0], model.patch_conv.out_features
  hidden = block.feed_forward.up.out_features
  said = {
    "img_size": height if height == width else [height, width],
    "patch_size": model.patch_conv.kernel_size[0],
    "embed_dim": d,
    "depth": len(model.layers),
    "num_heads": block.attention.query.out_features[0],
  }
  name = next(
    (name for name, own in _REGISTERED.items() if own == said),
    "vit_base_patch16_224",
  )
  said |= {
    "mlp_ratio": _ratio(hidden, d),
    "act_layer": _theirs(_TIMM_ACTIVATIONS, block),
    "class_token": model.has_class_token,
    "global_pool": {ours: t for t, ours in _POOLING.items()}[model.pooling],
    "fc_norm": model.norm_after_pooling,
  }
  if _has_layer_scale(block):
    said["init_values"] = 1e-5  # Any number makes the gains.
  return timm_config.written(
    name,
    model.input_shape,
    model.head.out_features,
    "patch_embed.proj",
    "head",
    fixed_input_size=True,
    **said,
  )


def _ratio(hidden: int, d: int) -> float:
  """The ratio whose product with d is `hidden`, or a little more."""
  ratio = hidden / d
  return ratio if int(d * ratio) == hidden else math.nextafter(ratio, math.inf)


def _timm_entries(model: nnx.Module) -> Declared:
  found = [
    *_ends(
      patch="patch_embed.proj",
      token="cls_token" if model.has_class_token else None,
      positions="pos_embed",
      norm="fc_norm" if model.norm_after_pooling else "norm",
      head="head",
    )
  ]
  for index, block in enumerate(model.layers):
    ours, theirs = f"layers/{index}", f"blocks.{index}"
    found += _block(block, ours, theirs, _TIMM_NAMES)
    for leaf, axes in {"weight": " d -> n d h k", "bias": " -> n h k"}.items():
      own = "kernel" if leaf == "weight" else leaf
      readers = [
        f"{ours}/attention/{name}/{own}" for name in ("query", "key", "value")
      ]
      found.append(
        Entry(
          tuple(readers),
          f"{theirs}.attn.qkv.{leaf}",
          f"(n h k){axes}",
          **_heads(block),
        )
      )
    if _has_layer_scale(block):
      found += [
        Entry(f"{ours}/attention_gain", f"{theirs}.ls1.gamma"),
        Entry(f"{ours}/feed_forward_gain", f"{theirs}.ls2.gamma"),
      ]
  return found


_TIMM_NAMES = {
  "attention_input_norm": "norm1",
  "feed_forward_input_norm": "norm2",
  "attention/out": "attn.proj",
  "feed_forward/up": "mlp.fc1",
  "feed_forward/down": "mlp.fc2",
}


# ----- Both -----


def _theirs(names: dict[str, str], block: Any) -> str:
  """Their first name of the activation."""
  theirs = {ours: name for name, ours in reversed(names.items())}
  return saying.word("activation", theirs, block.feed_forward.activation)


def _has_layer_scale(block: Any) -> bool:
  gain = getattr(block, "attention_gain", None)
  return gain is not None and gain.ndim == 1


def _heads(block: Any) -> dict[str, int]:
  h, k = block.attention.query.out_features
  return {"h": h, "k": k}


def _ends(
  *, patch: str, token: str | None, positions: str, norm: str, head: str
) -> Declared:
  """What is not in a block."""
  found: Declared = [
    Entry("patch_conv/kernel", f"{patch}.weight", "d c y x -> y x c d"),
    Entry("patch_conv/bias", f"{patch}.bias"),
    Entry("position_embedding", positions, "1 t d -> t d"),
    Entry("final_norm/scale", f"{norm}.weight"),
    Entry("final_norm/bias", f"{norm}.bias"),
    Entry("head/kernel", f"{head}.weight", "o d -> d o"),
    Entry("head/bias", f"{head}.bias"),
  ]
  if token is not None:
    found.append(Entry("class_token", token, "1 1 d -> d"))
  return found


def _block(
  block: Any, ours: str, theirs: str, names: dict[str, str]
) -> Declared:
  """A block's norms and all of its matrices that both have apart."""
  found: Declared = []
  for branch in ("attention", "feed_forward"):
    own = f"{branch}_input_norm"
    found += [
      Entry(f"{ours}/{own}/scale", f"{theirs}.{names[own]}.weight"),
      Entry(f"{ours}/{own}/bias", f"{theirs}.{names[own]}.bias"),
    ]
  layouts = {
    "attention/out": ("d (h k) -> h k d", _heads(block)),
    "feed_forward/up": ("f d -> d f", {}),
    "feed_forward/down": ("d f -> f d", {}),
  }
  for own, (layout, sizes) in layouts.items():
    name = f"{theirs}.{names[own]}"
    found += [
      Entry(f"{ours}/{own}/kernel", f"{name}.weight", layout, **sizes),
      Entry(f"{ours}/{own}/bias", f"{name}.bias"),
    ]
  return found


TRANSFORMERS = Architecture(
  name="vit",
  answers_to=("ViTForImageClassification",),
  models=("vit",),
  options=_options,
  config=_config,
  entries=_entries,
  prefix="vit.",
  # Of the model without a head; the class token is read as it is.
  ignored=(r"pooler\.dense\.(weight|bias)",),
)
TIMM = Architecture(
  name="timm_vit",
  answers_to=("vit_*_patch*", "deit_*_patch*"),
  models=("vit",),
  options=_timm_options,
  config=_timm_config,
  entries=_timm_entries,
)
