"""Which implementation elsewhere an optimizer is timed beside."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from normjax import optim
from normjax.types import PyTree

LEARNING_RATE = 1e-3

# Options of ours; those of the peers below and in `torch_peers` match them.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
  "adamw": {"weight_decay": 0.1},
  "adamp": {"weight_decay": 0.1},
  "sgdp": {"momentum": 0.9, "weight_decay": 1e-4},
  "adamw_8bit": {"weight_decay": 0.1},
  "momentum_8bit": {"momentum": 0.9},
  "sgd": {"momentum": 0.9},
}


@dataclasses.dataclass(frozen=True)
class Peer:
  """An optax transform of the same method.

  Attributes:
    label: the name users know.
    make: from the parameters' shapes to the transform.
  """

  label: str
  make: Callable[[PyTree], optax.GradientTransformation]


def _adamw(shapes):
  del shapes
  return optax.adamw(LEARNING_RATE, weight_decay=0.1, mask=optim.decay_mask)


def _muon(shapes):
  # By default optax takes the embedding and the head for hidden matrices.
  dims = optim.default_dims(shapes)
  numbers = jax.tree.map(
    lambda d: optax.contrib.MuonDimensionNumbers(
      d.reduction_axis, d.output_axis
    ),
    dims,
    is_leaf=lambda node: isinstance(node, optim.MatrixDims),
  )
  return optax.contrib.muon(
    LEARNING_RATE, muon_weight_dimension_numbers=numbers
  )


def _nfnet_sgd(shapes):
  # It clips the head too.
  del shapes
  return optax.chain(
    optax.adaptive_grad_clip(0.01),
    optax.add_decayed_weights(2e-5, mask=optim.decay_mask),
    optax.sgd(LEARNING_RATE, momentum=0.9, nesterov=True),
  )


def _plain(factory, **options):
  return lambda shapes: factory(LEARNING_RATE, **options)


OPTAX: Mapping[str, tuple[Peer, ...]] = {
  "adamw": (Peer("optax.adamw", _adamw),),
  "adamp": (Peer("optax.adamw", _adamw),),
  "muon": (Peer("optax.contrib.muon", _muon),),
  "lion": (Peer("optax.lion", _plain(optax.lion)),),
  "lamb": (Peer("optax.lamb", _plain(optax.lamb)),),
  "adafactor": (Peer("optax.adafactor", _plain(optax.adafactor)),),
  "sgd": (Peer("optax.sgd", _plain(optax.sgd, momentum=0.9)),),
  "nfnet_sgd": (Peer("optax.adaptive_grad_clip, sgd", _nfnet_sgd),),
  "galore": (Peer("optax.contrib.galore", _plain(optax.contrib.galore)),),
}

# Names of `torch_peers.PEERS`.
TORCH: Mapping[str, tuple[str, ...]] = {
  "adamw": ("torch AdamW, fused",),
  "adamp": ("adamp AdamP",),
  "sgdp": ("adamp SGDP",),
  "sinkgd": ("torch SinkGD, plain",),
  "conda": ("pytorch_optimizer Conda",),
  "adam_8bit": ("bitsandbytes Adam8bit",),
  "adamw_8bit": ("bitsandbytes AdamW8bit",),
  "momentum_8bit": ("bitsandbytes SGD8bit",),
  "lion_8bit": ("bitsandbytes Lion8bit",),
  "lion": ("pytorch_optimizer Lion",),
  "apollo": ("pytorch_optimizer APOLLO",),
  "fira": ("pytorch_optimizer Fira",),
}
