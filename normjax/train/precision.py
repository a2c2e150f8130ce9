"""What `train.matmul_precision` means: the products of float32 arrays.

A GPU and a TPU can round the operands of a float32 product, which is then
several times faster, and by default do so. A CPU cannot. Products of bfloat16
operands, those of a model with `train.precision="bfloat16"`, are the same with
every choice. Optimizers state theirs on their own (`optim/products.py`).
"""

import contextlib
from typing import NamedTuple

import jax

from kernels_pallas import dispatch
from normjax import configure

KEY = "train.matmul_precision"


class Meaning(NamedTuple):
  """What a choice is on one platform.

  Attributes:
    jax: a value of `jax.default_matmul_precision`.
    operands: what the operands of a float32 product are rounded to.
  """

  jax: str
  operands: str


_WHOLE = Meaning("float32", "float32")
_GPU_TF32 = Meaning("tensorfloat32", "tf32")
# A TPU computes float32 by six products of bfloat16 parts.
_THREE_PARTS = Meaning("tensorfloat32", "three bfloat16 parts")

# What jax calls "bfloat16" is TF32 on a GPU; the algorithm's name means what it
# says. Convolutions know no algorithm, and are in TF32 there.
MEANINGS: dict[str, dict[str, Meaning]] = {
  "float32": {"cpu": _WHOLE, "gpu": _WHOLE, "tpu": _WHOLE},
  "tf32": {"cpu": _WHOLE, "gpu": _GPU_TF32, "tpu": _THREE_PARTS},
  "bfloat16": {
    "cpu": _WHOLE,
    "gpu": Meaning("BF16_BF16_F32", "bfloat16, convolutions tf32"),
    "tpu": Meaning("bfloat16", "bfloat16"),
  },
  # What the platform takes where nobody says anything.
  "default": {
    "cpu": Meaning("default", "float32"),
    "gpu": Meaning("default", "tf32"),
    "tpu": Meaning("default", "bfloat16"),
  },
}


def meaning(choice: str) -> Meaning:
  """Of a choice, on the platform that is compiled for."""
  by_platform = MEANINGS[choice]
  return by_platform[dispatch.target().platform]


def applied(choice: str) -> contextlib.AbstractContextManager[None]:
  """What is traced inside has products of this precision."""
  return jax.default_matmul_precision(meaning(choice).jax)


def choice(config: configure.ConfigDict) -> str:
  """What a config asks for."""
  return configure.optional(config, KEY)
