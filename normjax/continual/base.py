"""What a continual learner is: a loss of new examples and replayed ones."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import optax

from normjax.types import Array


class Part(NamedTuple):
  """The outputs for some examples of a step.

  Attributes:
    logits: (b, c), float32.
    labels: (b,).
    kept: (b, c), the logits of when they were stored; of replayed examples, and
      of a learner that keeps logits.
  """

  logits: Array
  labels: Array
  kept: Array | None = None


class Seen(NamedTuple):
  """What a learner may know of the stream so far."""

  task: Array  # The current one, from 0.
  last_class: Array  # The largest label of the new examples so far.


Loss = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Learner:
  """A way to learn from new examples and from a buffer of old ones.

  Attributes:
    name: in the table.
    loss: (new, replays, seen, **hyper) -> scalar. `replays` are
      `num_replays` parts, or none as long as nothing is replayed.
    num_replays: independent draws from the buffer in a step.
    replays_from: the first task in which something is replayed.
    keeps_logits: whether the buffer holds logits.
    hyper: numbers of the loss, which are traced.
  """

  name: str
  loss: Loss
  num_replays: int = 1
  replays_from: int = 0
  keeps_logits: bool = False
  hyper: Mapping[str, float] = dataclasses.field(
    default_factory=dict, hash=False, compare=False
  )


def cross_entropy(logits: Array, labels: Array) -> Array:
  """The mean over the examples, in nats."""
  each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return jnp.mean(each)
