"""Models as users write them, named as "tests.train.own_models:…"."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from flax.nnx import bridge

from normjax import models
from normjax.nn.linen import LinenNorm
from normjax.nn.norm_layer import NormLayer
from normjax.nn.output import Output
from tests.objectives import toys


class Plain(nnx.Module):
  """Takes the inputs alone; dropout, running statistics, a counter."""

  def __init__(self, num_classes, input_shape, *, rngs):
    self.first = nnx.Linear(*input_shape, 8, rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.second = nnx.Linear(8, num_classes, rngs=rngs)
    self.num_calls = nnx.Variable(jnp.zeros((), jnp.int32))
    self.decayed = jnp.ones(3)

  def __call__(self, x):
    self.num_calls[...] += 1
    self.decayed = 0.5 * self.decayed
    return self.second(self.drop(nnx.relu(self.norm(self.first(x)))))


class Attending(nnx.Module):
  """Flax's attention with dropout; its word for no training; a Flax norm."""

  def __init__(self, input_shape, num_classes, rngs, width: int = 8):
    self.embed = nnx.Linear(1, width, rngs=rngs)
    self.attend = nnx.MultiHeadAttention(
      2, width, dropout_rate=0.5, decode=False, rngs=rngs
    )
    self.norm = nnx.LayerNorm(width, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, x, deterministic):
    x = self.embed(x[..., None])
    x = self.norm(x + self.attend(x, deterministic=deterministic))
    return self.head(jnp.mean(x, axis=1))


class Linen(linen.Module):
  """The same in Linen."""

  num_classes: int
  norm: Any = None

  @linen.compact
  def __call__(self, x, train):
    x = linen.Dense(8)(x)
    if self.norm is None:
      x = linen.BatchNorm(use_running_average=not train)(x)
    else:
      x = LinenNorm(self.norm)(x, train=train)
    x = linen.Dropout(0.5, deterministic=not train)(nnx.relu(x))
    return linen.Dense(self.num_classes)(x)


def bridged(num_classes, rngs):
  return bridge.ToNNX(Linen(num_classes), rngs=rngs)


def ported(num_classes):
  return models.from_linen(Linen(num_classes))


def sequential(num_classes, input_shape, rngs):
  return nnx.Sequential(
    nnx.Linear(*input_shape, 8, rngs=rngs),
    nnx.BatchNorm(8, rngs=rngs),
    nnx.Dropout(0.5, rngs=rngs),
    nnx.Linear(8, num_classes, rngs=rngs),
  )


class Normed(nnx.Module):
  """Takes the norm of the config: a sweep over `norm.name` works in it."""

  def __init__(self, num_classes, input_shape, norm, rngs):
    self.first = nnx.Linear(*input_shape, 8, rngs=rngs)
    self.norm = NormLayer(norm, (8,), rngs=rngs)
    self.second = nnx.Linear(8, num_classes, rngs=rngs)

  def __call__(self, x):
    return self.second(nnx.relu(self.norm(self.first(x))))


class Odd(nnx.Module):
  """Returns what no model should."""

  def __init__(self, num_classes, input_shape, rngs, returns: str = "logits"):
    self.returns = returns
    start = jnp.nan if returns == "nan" else 1.0
    self.weight = nnx.Param(jnp.full((*input_shape, num_classes), start))

  def __call__(self, x):
    logits = x @ self.weight[...]
    if self.returns == "growing":
      self.more = nnx.Variable(jnp.zeros(2))
    if self.returns == "failing":
      return jax.lax.dot(x, x)
    return {
      "tuple": (logits, x),
      "dict": {"logits": logits},
      "ints": jnp.argmax(logits, -1),
      "few": logits[..., :1],
      "output": Output(logits),
    }.get(self.returns, logits)


def classes():
  """The line's inputs, with three classes."""
  line = toys.line()

  class Classes(toys.Line):
    """Labels in place of values."""

    @property
    def model_options(self):
      return super().model_options | {"num_classes": 3}

    def _batch(self, inputs, weight):
      found = super()._batch(inputs, weight)
      return found | {"targets": np.arange(len(inputs), dtype=np.int32) % 3}

  return Classes(line.teacher_io, line.validation, targets="classes")
