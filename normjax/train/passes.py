"""A pass over a batch: in micro-batches, by each device on its part."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from normjax.metrics import Batch
from normjax.train.sharding import device_parts
from normjax.types import Array, PyTree


def micro_batches(batch: Batch, count: int) -> Batch:
  """(b, …) -> (count, b / count, …), each a stride of the batch.

  Strides keep a batch that is sharded over devices sharded the same way.
  """
  return jax.tree.map(
    lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch
  )


def over_batch(
  one: Callable[[tuple[Array, Batch]], tuple[Any, PyTree, dict[str, Array]]],
  batch: Batch,
  count: int,
) -> tuple[Any, PyTree, dict[str, Array]]:
  """A function of the batch, in micro-batches by scan.

  Args:
    one: (index, micro-batch) -> (sums, statistics, measured values by name).
    batch: of the step.
    count: of micro-batches.

  Returns:
    The sums of all; statistics `over_micro_batches`; measured values
    `over_passes`.
  """
  one = device_parts.each(one)
  if count == 1:
    return one((jnp.zeros((), jnp.int32), batch))

  def body(summed, indexed):
    summable, *each = one(indexed)
    return jax.tree.map(jnp.add, summed, summable), each

  indexed = (jnp.arange(count), micro_batches(batch, count))
  first = jax.tree.map(lambda x: x[0], indexed)
  zeros = jax.tree.map(
    lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, first)[0]
  )
  sums, (statistics, measured) = jax.lax.scan(body, zeros, indexed)
  statistics = jax.tree.map(over_micro_batches, statistics)
  return sums, statistics, over_passes(measured)


def over_micro_batches(values: Array) -> Array:
  """A statistic's new value from those of the micro-batches, stacked."""
  if jnp.issubdtype(values.dtype, jnp.inexact):
    # What no call moves stays bit for bit: a third of it three times may not.
    same = jnp.all(values == values[0], axis=0)
    return jnp.where(same, values[0], jnp.mean(values, axis=0))
  return jnp.max(values, axis=0)


def over_passes(measured: Mapping[str, Array]) -> dict[str, Array]:
  """Measured values, stacked: their means, of ".../max" the largest."""
  return {
    name: jnp.max(value) if name.endswith("/max") else jnp.mean(value)
    for name, value in measured.items()
  }
