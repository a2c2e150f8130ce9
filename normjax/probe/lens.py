"""What a model would say early, and without one of its blocks."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from normjax.nn.output import Output
from normjax.probe.network import Network
from normjax.types import Array

Loss = Callable[[Output], Array]


class Lens(NamedTuple):
  """The logit lens by depth; NaN where a stream does not fit the end.

  Attributes:
    loss: of the logits.
    divergence: KL(p_final || p_depth), the mean over tokens, in nats.
  """

  loss: list[float]
  divergence: list[float]


@jax.jit
def divergence(
  final: Array, logits: Array, weight: Array | None = None
) -> Array:
  """KL(softmax(final) || softmax(logits)) over the last axis, in nats.

  Args:
    final: (..., v).
    logits: of the same shape.
    weight: (...), of a mean; None: equal.
  """
  p, q = (jax.nn.log_softmax(x, axis=-1) for x in (final, logits))
  values = jnp.sum(jnp.exp(p) * (p - q), -1)
  return jnp.average(values, weights=weight)


def logit_lens(
  network: Network,
  streams: Sequence[Array],
  loss: Loss,
  weight: Array | None = None,
) -> Lens:
  """Each stream through the model's own end: its final norm and head.

  nostalgebraist, "interpreting GPT: the logit lens" (2020); the divergence as
  in arXiv:2303.08112.

  Args:
    network: the model.
    streams: by depth, as `Network.run` gives them.
    loss: of an output.
    weight: of each prediction.
  """
  final = network.end(streams[-1])
  found = Lens([], [])
  for x in streams:
    if x.shape != streams[-1].shape:
      found.loss.append(float("nan"))
      found.divergence.append(float("nan"))
      continue
    output = network.end(x)
    found.loss.append(float(loss(output)))
    found.divergence.append(
      float(divergence(final.logits, output.logits, weight))
    )
  return found


def losses_without(
  network: Network, streams: Sequence[Array], loss: Loss
) -> list[float]:
  """The loss where one block is skipped: its input is its output.

  A block without which the loss is the same does nothing: arXiv:2502.05795,
  whose figures show it of deep blocks of Pre-LN, by the accuracy on tasks. NaN
  where a block changes the stream's shape, and cannot be skipped.

  Args:
    network: the model.
    streams: by depth, as `Network.run` gives them.
    loss: of an output.
  """
  losses = []
  for index in range(len(network)):
    before, after = streams[index], streams[index + 1]
    if before.shape != after.shape:
      losses.append(float("nan"))
      continue
    skipped = network.after(index + 1, before)
    losses.append(float(loss(network.end(skipped))))
  return losses
