"""Attention sinks: heads that attend to the first token."""

from collections.abc import Sequence

import jax.numpy as jnp

from normjax.types import Array

THRESHOLD = 0.3


def sink_rate(
  masses: Sequence[Array | None], threshold: float = THRESHOLD
) -> Array:
  """The share of heads whose attention to the first token is above a threshold.

      1/L sum_l 1/H sum_h [alpha_lh > threshold]

  alpha is the weight on the first token, the mean over queries:
  arXiv:2410.10781, section 3, whose threshold is 0.3 and which averages over
  sequences of 64 tokens; here alpha is the mean over examples, too. Sinks:
  arXiv:2309.17453.

  Args:
    masses: (h,) by layer, as `Streams.masses`; None, a layer without weights,
      does not count.
    threshold: of the mass.
  """
  found = [mass for mass in masses if mass is not None]
  return jnp.mean(jnp.stack([jnp.mean(m > threshold) for m in found]))
