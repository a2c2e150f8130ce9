"""Domain-specific batch normalization: Chang and others 2019, arXiv:1906.03950.

After the official code, wgchang/DSBN, which has no licence: equations alone are
taken. The paper was not read.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax

from kernels_pallas import moments as kernel
from normjax import validate
from normjax.norms import base, domains, modes, moments, running
from normjax.types import Array


def dsbn(
  num_domains: int = 1,
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Literal["unbiased", "biased"] = "unbiased",
) -> base.Norm:
  """Domain-specific batch normalization: a batch norm for each domain.

      y_i = (x_i - mean_d) / sqrt(var_d + eps) * scale_d + bias_d,  d = domain_i

  arXiv:1906.03950. mean_d and the biased variance var_d are those of the
  examples of domain d in the batch, and these alone move the running statistics
  of d. The official code takes a whole batch to be of one domain, that of its
  first example. Here a batch may be mixed: its y is that of each domain's part
  alone. The `context` says the domains (`normjax.norms.domains`); with one
  domain it is `batch_norm`.

  A domain of fewer than two values in a training batch has no variance: its
  running statistics normalise it there, and stay. With features (b, c) that is
  a single example; a batch should have several of each domain.

  `scale`, `bias`, and the running `mean` and `var` are (domains, c), ones and
  zeros at first: to start from a model with batch norms, its values are copied
  to all rows. Statistics are float32 (float64 for float64), two passes. Blended
  statistics (`Mode`) mix those of each domain.

  Args:
    num_domains: how many there are, >= 1.
    momentum: weighs the old running value, in [0, 1]; PyTorch's momentum is 1
      minus this one.
    eps: inside the square root, > 0.
    running_variance: what enters the running variance: "unbiased" (PyTorch, the
      official code), or "biased".

  Raises:
    UserError: an option out of range; from `apply`, a context that is missing
      or is not an id per example, a training batch of one value per channel, or
      missing statistics.
  """
  validate.count("dsbn", "num_domains", num_domains, least=1)
  validate.number("dsbn", "momentum", momentum, least=0, most=1)
  validate.number("dsbn", "eps", eps, above=0)
  validate.choice(
    "dsbn", "running_variance", running_variance, ("unbiased", "biased")
  )
  return base.Norm(
    name="dsbn",
    options={
      "num_domains": num_domains,
      "momentum": momentum,
      "eps": eps,
      "running_variance": running_variance,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      shift_invariant=True,
      foldable=num_domains == 1,
      needs_train_flag=True,
      blends=True,
      num_domains=num_domains,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, num_domains: int, **_: Any):
  wide = jnp.promote_types(dtype, jnp.float32)
  table = (num_domains, shape[-1])
  return {
    "params": {
      "scale": jnp.ones(table, dtype),
      "bias": jnp.zeros(table, dtype),
    },
    "stats": {"mean": jnp.zeros(table, wide), "var": jnp.ones(table, wide)},
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  context: Any,
  num_domains: int,
  momentum: float,
  eps: float,
  running_variance: str,
  **_: Any,
):
  params, stats = variables["params"], variables["stats"]
  base.check_variables("dsbn", variables, "stats", ("mean", "var"))
  base.check_features("dsbn", x, stats["mean"].shape[-1])
  domains.check_table("dsbn", variables, "scale", num_domains)
  wide = moments.promote(x)
  member = domains.members("dsbn", context, x, num_domains)
  if mode.statistics == "running":
    return _by(stats, wide, member, params, eps).astype(x.dtype), stats
  base.check_batch("dsbn", x)
  mean, variance, count = _measure(wide, member, mask)
  kept = variance
  if running_variance == "unbiased":
    kept = variance * (count / jnp.maximum(count - 1, 1))
  new = {"mean": mean, "var": kept}
  if mode.statistics == "blended":
    used = running.blend(stats, new, mode, count)
    return _by(used, wide, member, params, eps).astype(x.dtype), stats
  used = {
    name: jnp.where(count > 1, own, stats[name].astype(own.dtype))
    for name, own in (("mean", mean), ("var", variance))
  }
  y = _by(used, wide, member, params, eps).astype(x.dtype)
  return y, running.advance(stats, new, momentum, count)


def _by(
  given: Mapping[str, Array],
  x: Array,
  member: Array,
  params: Mapping[str, Array],
  eps: float,
) -> Array:
  """By statistics (domains, c); NaN for an example without a domain."""
  r = lax.rsqrt(given["var"].astype(x.dtype) + eps)
  of_example = {"mean": given["mean"], "r": r, **params}
  mean, r, scale, bias = (
    _of_example(of_example[name].astype(x.dtype), member, x)
    for name in ("mean", "r", "scale", "bias")
  )
  is_known = domains.rows(jnp.any(member, axis=1, keepdims=True), x)
  return jnp.where(is_known, (x - mean) * r * scale + bias, jnp.nan)


def _of_example(table_dc: Array, member: Array, x: Array) -> Array:
  """The row of each example's domain, to broadcast against x; 0 without one.

  By a sum in which one term is not 0: examples may be split over devices.
  """
  if table_dc.shape[0] == 1:
    return table_dc[0]
  picked = jnp.where(member[:, :, None], table_dc, 0)
  return domains.rows(jnp.sum(picked, axis=1), x)


def _measure(
  x: Array, member: Array, mask: Array | None
) -> tuple[Array, Array, Array]:
  """Mean and biased variance, (d, c), and how many values they have, (d, 1)."""
  positions = tuple(range(1, x.ndim - 1))
  if mask is not None:
    mask = moments.broadcast_mask(mask, x)

  def total(values: Array) -> Array:
    if mask is not None:
      values = jnp.where(mask, values, 0)
    each = jnp.sum(values, axis=positions)
    return jnp.sum(jnp.where(member[:, :, None], each[:, None], 0), axis=0)

  of_one = moments.count(x, positions, mask)
  of_one = of_one if mask is None else of_one.reshape(-1, 1)
  count = jnp.sum(jnp.where(member, of_one, 0), axis=0)[:, None]
  size = jnp.maximum(count, 1)
  first = total(x) / size
  centered = x - _of_example(first, member, x)
  rest = lax.stop_gradient(total(centered) / size)
  square = total(jnp.square(centered)) / size
  return first + rest, kernel.about_the_mean(square, rest), count
