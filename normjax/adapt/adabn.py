"""AdaBN: Li et al. 2016, arXiv:1603.04779 (equations second-hand)."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.adapt import base, sites
from normjax.nn.variables import split
from normjax.types import Array, PyTree


def adabn(model: nnx.Module) -> base.Adapter:
  """Statistics of the whole target domain in place of the source's, then fixed.

      mean = mean over the target,  var = mean over the target of (x - mean)^2

  `state = adapter.fit(batches)` takes them in one pass, in which each batch is
  normalised by its own statistics on its way up; means and variances of
  batches are pooled exactly, whatever their sizes. A state that was not fitted
  is the source model.

  Args:
    model: with batch_norm.

  Raises:
    UserError: a model without batch_norm; from `fit`, an empty stream.
  """

  def own_batch(norm, variables):
    # Of momentum 0: the running statistics are then those of the batch.
    changes = {"momentum": 0.0, "running_variance": "biased"}
    return sites.with_options(norm, **changes), variables

  measuring, _ = split(
    sites.pin(
      "adabn",
      model,
      needs="batch_norm",
      change=own_batch,
      statistics="batch",
      update=True,
    )
  )

  @jax.jit
  def measure(variables: base.Variables, inputs: Array) -> PyTree:
    return base.predict(measuring, variables, inputs)[1]

  def fit(structure, state: base.State, stream: Iterable[Any]) -> base.State:
    del structure
    pooled, size = None, 0
    for inputs in stream:
      batch = measure(state.variables, jnp.asarray(inputs))
      share = len(inputs) / (size + len(inputs))
      pooled = batch if pooled is None else _pool(pooled, batch, share)
      size += len(inputs)
    if pooled is None:
      raise errors.UserError("adabn: the stream is empty; needed: a batch.")
    return state._replace(variables={**state.variables, "stats": pooled})

  running = sites.pin("adabn", model, needs="batch_norm")
  return base.adapter("adabn", running, base.keeps_state, fit=fit)


def _pool(old: PyTree, new: PyTree, share: float) -> PyTree:
  """Mean and variance of both together; `share` is the new one's."""
  if "mean" not in old:
    return {
      name: _pool(value, new[name], share) if isinstance(value, dict) else value
      for name, value in old.items()
    }
  step = new["mean"] - old["mean"]
  var = (1 - share) * old["var"] + share * new["var"]
  return {
    **old,
    "mean": old["mean"] + share * step,
    "var": var + share * (1 - share) * jnp.square(step),
  }
