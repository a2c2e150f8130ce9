"""AdaBN: Li et al. 2016, arXiv:1603.04779 (equations second-hand)."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.adapt import base, pooled, sites
from normjax.nn.variables import split
from normjax.types import Array, PyTree


def adabn(model: nnx.Module) -> base.Adapter:
  """Statistics of the whole target domain in place of the source's, then fixed.

      mean = mean over the target,  var = mean over the target of (x - mean)^2

  `state = adapter.fit(batches)` takes them in one pass, in which each batch is
  normalised by its own statistics on its way up; means and variances of
  batches are pooled exactly, whatever their sizes, and so are those of a norm
  that is called several times. A state that was not fitted
  is the source model.

  Args:
    model: with batch_norm.

  Raises:
    UserError: a model without batch_norm; from `fit`, an empty stream.
  """
  measuring, variables = split(
    sites.pin(
      "adabn",
      model,
      needs="batch_norm",
      change=pooled.pooled,
      statistics="batch",
      update=True,
    )
  )

  @jax.jit
  def measure(variables: base.Variables, inputs: Array) -> PyTree:
    return base.predict(measuring, variables, inputs)[1]

  def fit(structure, state: base.State, stream: Iterable[Any]) -> base.State:
    del structure
    params, stats = state.variables["params"], None
    for inputs in stream:
      given = {
        **variables,
        "params": params,
        "stats": variables["stats"] if stats is None else stats,
      }
      stats = measure(given, jnp.asarray(inputs))
    if stats is None:
      raise errors.UserError("adabn: the stream is empty; needed: a batch.")
    new = pooled.found(stats, "biased")
    return state._replace(variables={**state.variables, "stats": new})

  running = sites.pin("adabn", model, needs="batch_norm")
  return base.adapter("adabn", running, base.keeps_state, fit=fit)
