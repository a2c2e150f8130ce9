"""The linear head: logits are a linear map of features."""

from typing import Any

import jax
import jax.numpy as jnp

from normjax.similarity.heads import base
from normjax.types import Array


def linear() -> base.Head:
  """Logits x kernel + bias: the head of the models' papers.

  In a model it is an nnx.Linear with that model's initializer, and gives logits
  alone; here the kernel starts as jax's lecun_normal, the bias at 0. What it
  compares are the features themselves.
  """
  return base.Head("linear", {}, _init, _apply, layer_fn=_layer)


def _init(key: Array, features: int, classes: int):
  kernel = jax.nn.initializers.lecun_normal()(key, (features, classes))
  return {"params": {"kernel": kernel, "bias": jnp.zeros(classes)}}


def _apply(variables: base.Variables, x: Array) -> base.Compared:
  params = variables["params"]
  return base.Compared(x @ params["kernel"] + params["bias"], x)


def _layer(features: int, classes: int, *, rngs: Any, **options: Any) -> Any:
  from flax import nnx  # Late: the table is light.

  from normjax.nn import checks

  wide = checks.logits_dtype(options.get("dtype") or jnp.float32)
  return nnx.Linear(
    features, classes, preferred_element_type=wide, rngs=rngs, **options
  )
