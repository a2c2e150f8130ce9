"""UnMix-TNS: Tomar et al. 2024, arXiv:2401.08328.

Official code: github.com/devavratTomar/unmixtns (no licence; equations only).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from normjax import norms, validate
from normjax.adapt import base, sites
from normjax.nn import norm_sites
from normjax.norms import affine, moments
from normjax.similarity.matrices import product
from normjax.types import Array, PyTree

_TEMPERATURE = 0.07
_LEAST_LENGTH = 1e-12


def unmix_tns(
  model: nnx.Module,
  components: int = 16,
  alpha: float = 0.5,
  momentum: float | None = None,
  batch_size_max: int = 64,
) -> base.Adapter:
  """K sets of statistics per norm; each example is a mixture of its own.

  With M, V (K, c) the components, and mu_b, s_b (c,) mean and biased variance
  of an example over its pixels:

      p_bk  = softmax_k(cos(mu_b, M_k) / 0.07)
      mu_bk = (1 - p_bk) M_k + p_bk mu_b
      s_bk  = (1 - p_bk) V_k + p_bk s_b
      mean_b = mean_k mu_bk
      var_b  = mean_k s_bk + mean_k mu_bk^2 - mean_b^2
      M_k <- M_k + rate mean_b p_bk (mu_b - M_k),  V_k likewise with s_b

  An example is normalised by mean_b and var_b, before the components move; p
  and the components are constants of a gradient. They start around the source:

      M_k = mean + sqrt(alpha K / (K - 1) var) z_k,  V_k = (1 - alpha) var

  with z_k standard normal, so that the mixture has the source's variance; of
  one component, they are the source's. As in the official code, the weights of
  the mixture are not normalised over k, so that an example is 1/K of its own
  mean; and the components move by about rate / K per batch: they need hundreds
  of batches, or a large rate. Batch normalization of vectors of features stays
  as trained.

  Args:
    model: with batch_norm.
    components: K. The paper takes 16, and 128 where domains are mixed.
    alpha: how far the components start from each other, in [0, 1).
    momentum: the rate, the paper's word: weighs what is *new*, in [0, 1]. None:
      1 - m^(b / batch_size_max) of each norm's own momentum m, which weighs the
      old one, 0.1 with PyTorch's default and full batches.
    batch_size_max: see `momentum`. 64 is that of CIFAR, 16 of ImageNet.

  Raises:
    UserError: an option out of range, or a model without batch_norm.
  """
  validate.count("unmix_tns", "components", components, 1)
  validate.number("unmix_tns", "alpha", alpha, least=0, below=1)
  if momentum is not None:
    validate.number("unmix_tns", "momentum", momentum, least=0, most=1)
  validate.count("unmix_tns", "batch_size_max", batch_size_max, 1)

  def change(norm, variables):
    eps, old = norm.options["eps"], norm.options["momentum"]
    room = _room(variables, components, momentum)
    return _norm(eps, old, batch_size_max), room

  pinned = sites.pin(
    "unmix_tns",
    model,
    needs="batch_norm",
    change=change,
    statistics="batch",
    update=True,
  )
  made = base.adapter("unmix_tns", pinned, base.by_statistics)

  def init(key: Array) -> base.State:
    state = made.init_fn(key)
    stats = _start(state.variables["stats"], key, alpha)
    return state._replace(variables={**state.variables, "stats": stats})

  return dataclasses.replace(made, init_fn=init)


def _norm(eps: float, momentum: float, batch_size_max: int) -> norms.Norm:
  """What runs in the place of a batch norm."""
  return norms.Norm(
    name="unmix_tns",
    options={
      "eps": eps,
      "momentum": momentum,
      "batch_size_max": batch_size_max,
    },
    traits=norms.NormTraits(
      statistics="batch", needs_train_flag=True, mixes_positions=True
    ),
    init_fn=lambda shape, dtype, **_: {},
    apply_fn=_apply,
  )


def _room(
  variables: norm_sites.NormVariables, components: int, momentum: float | None
) -> norm_sites.NormVariables:
  """The variables of a batch norm, and those of components without values."""
  stats = dict(variables["stats"])
  for name, of in (("means", "mean"), ("variances", "var")):
    stats[name] = jnp.zeros((components, stats[of].size), stats[of].dtype)
  if momentum is not None:
    stats["rate"] = jnp.asarray(momentum)
  return {**variables, "stats": stats}


def _start(stats: PyTree, key: Array, alpha: float) -> PyTree:
  """The components' first values, drawn anew for each norm."""
  if "means" not in stats:
    return {
      name: _start(value, jax.random.fold_in(key, index), alpha)
      if isinstance(value, dict)
      else value
      for index, (name, value) in enumerate(sorted(stats.items()))
    }
  mean, var, shape = stats["mean"], stats["var"], stats["means"].shape
  if shape[0] == 1:
    return {**stats, "means": mean[None], "variances": var[None]}
  scale = math.sqrt(alpha * shape[0] / (shape[0] - 1))
  z_kc = jax.random.normal(key, shape, mean.dtype)
  return {
    **stats,
    "means": mean + scale * jnp.sqrt(var) * z_kc,
    "variances": jnp.broadcast_to((1 - alpha) * var, shape),
  }


def _apply(
  variables: Any,
  x: Array,
  *,
  eps: float,
  momentum: float,
  batch_size_max: int,
  **_: Any,
) -> tuple[Array, Any]:
  """(y, the new statistics)."""
  params, stats = variables["params"], variables["stats"]
  wide = moments.promote(x)
  if x.ndim == 2:
    mean_bc, var_bc, new = stats["mean"], stats["var"], stats
  else:
    mu, s = moments.mean_and_variance(wide, range(1, x.ndim - 1))
    flat = (x.shape[0], x.shape[-1])
    rate = stats.get("rate", 1 - momentum ** (x.shape[0] / batch_size_max))
    mean_bc, var_bc, new = _unmix(
      stats, mu.reshape(flat), s.reshape(flat), rate
    )
    shape = (x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])
    mean_bc, var_bc = mean_bc.reshape(shape), var_bc.reshape(shape)
  normalized = (wide - mean_bc) * lax.rsqrt(var_bc + eps)
  return affine.apply(normalized, params).astype(x.dtype), new


def _unmix(
  stats: Any, mu_bc: Array, s_bc: Array, rate: Array | float
) -> tuple[Array, Array, Any]:
  """Mean and variance of each example, and the components after the batch.

  The means over k are written out: nothing of (b, K, c) is made. They are taken
  about the source's mean, so that a large one costs no digits; no device
  rounds the factors of a product.
  """
  origin_c = stats["mean"]
  m_kc, v_kc = map(lax.stop_gradient, (stats["means"], stats["variances"]))
  k = m_kc.shape[0]
  fixed_bc = lax.stop_gradient(mu_bc)
  cosine_bk = product(_unit(fixed_bc), _unit(m_kc).T)
  p_bk = jax.nn.softmax(cosine_bk / _TEMPERATURE)
  rest_bk = 1 - p_bk
  m0_kc, mu0_bc = m_kc - origin_c, mu_bc - origin_c
  # sum_k mu_bk = sum_k (1 - p_bk) M_k + mu_b, as sum_k p_bk = 1.
  mean0_bc = (product(rest_bk, m0_kc) + mu0_bc) / k
  inner_bc = (product(rest_bk, v_kc) + s_bc) / k
  square_bc = (
    product(jnp.square(rest_bk), jnp.square(m0_kc))
    + 2 * mu0_bc * product(rest_bk * p_bk, m0_kc)
    + jnp.square(mu0_bc) * jnp.sum(jnp.square(p_bk), -1, keepdims=True)
  ) / k
  var_bc = inner_bc + square_bc - jnp.square(mean0_bc)
  share_k = jnp.mean(p_bk, axis=0)[:, None]
  count = mu_bc.shape[0]

  def move(old_kc: Array, seen_bc: Array) -> Array:
    towards = product(p_bk.T, lax.stop_gradient(seen_bc)) / count
    new = old_kc + rate * (towards - share_k * old_kc)
    return new.astype(old_kc.dtype)

  new = {**stats, "means": move(m_kc, mu_bc), "variances": move(v_kc, s_bc)}
  return origin_c + mean0_bc, var_bc, new


def _unit(x: Array) -> Array:
  """Over the last axis, of length 1; as PyTorch's normalize where it is 0."""
  length = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jnp.maximum(length, _LEAST_LENGTH)
