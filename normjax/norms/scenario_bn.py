"""Scenario-aware batch normalization of DSFNet, WWW 2025.

The paper has no arXiv id and was not read. No official code is verified: what
was read is a copy of it that has no licence, DominicVinxander/DSFNet, of which
equations alone are taken.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from normjax import validate
from normjax.norms import base, domains, modes, modulation, moments, running
from normjax.types import Array

_PARTS = ("gain", "offset")
_KERNELS = ("kernel", "out_kernel")


def scenario_bn(
  num_domains: int = 1,
  hidden_dim: int = 64,
  normalized: bool = False,
  identity_start: bool = False,
  momentum: float = 0.9,
  eps: float = 1e-5,
) -> base.Norm:
  """Scenario-aware batch norm: one gain and one offset for each example.

      g(s), b(s) = relu(bn(s kernel + bias)) out_kernel + out_bias
      y = g(s) n + b(s)

  with n = x as in DSFNet's code, in which nothing is normalised in spite of the
  name; with `normalized` n = (x - mean) / sqrt(var + eps), batch-normalised
  without scale and bias. The code has it once, after the last activation; the
  paper's figure has it before each of them, where models here have their norms.
  g and b are scalars, (b, 1), each of a network of its own with a batch norm bn
  over the examples. s is the `context`: the scenario of each example, (b,) ids,
  or features of it, (b, num_domains) (`normjax.norms.domains`).

  Kernels are drawn from N(0, (2 / sqrt(inputs))^2) as in that code, twice the
  variance of He's: g has mean 0 over draws, so that the norm starts with a
  random sign. With `identity_start` it starts with g = 1 and b = 0: both
  `out_kernel` are 0.

  Statistics are float32 (float64 for float64), two passes, and the running
  variance is the biased one, as in that code. bn weighs examples alike, however
  many positions they have, and leaves out those that a mask hides.

  Args:
    num_domains: how many scenarios, or features of one, >= 1.
    hidden_dim: of both networks.
    normalized: whether x is batch-normalised.
    identity_start: whether it starts as that, without the scenario.
    momentum: of all running statistics; weighs the old value, in [0, 1].
    eps: inside the square root, > 0.

  Raises:
    UserError: an option out of range; from `apply`, a context that is missing
      or does not fit, a training batch of one example, or missing statistics.
  """
  name = "scenario_bn"
  validate.count(name, "num_domains", num_domains, least=1)
  validate.count(name, "hidden_dim", hidden_dim, least=1)
  validate.flags(name, normalized=normalized, identity_start=identity_start)
  validate.number(name, "momentum", momentum, least=0, most=1)
  validate.number(name, "eps", eps, above=0)
  return base.Norm(
    name=name,
    options={
      "num_domains": num_domains,
      "hidden_dim": hidden_dim,
      "normalized": normalized,
      "identity_start": identity_start,
      "momentum": momentum,
      "eps": eps,
    },
    traits=base.NormTraits(
      # Of x; those of bn are of what describes the scenarios.
      statistics="batch" if normalized else "none",
      scale_invariant=normalized,
      shift_invariant=normalized,
      foldable=num_domains == 1,
      needs_train_flag=True,
      blends=True,
      num_domains=num_domains,
    ),
    init_fn=_init,
    apply_fn=_apply,
    needs_key=True,
    kernels=tuple(f"{part}_{kernel}" for part in _PARTS for kernel in _KERNELS),
  )


def _init(
  shape: tuple[int, ...],
  dtype: DTypeLike,
  *,
  key: Array,
  num_domains: int,
  hidden_dim: int,
  normalized: bool,
  identity_start: bool,
  **_: Any,
):
  params, stats = {}, {}
  for part, part_key in zip(_PARTS, jax.random.split(key), strict=True):
    in_key, out_key = jax.random.split(part_key)
    first = jax.random.normal(in_key, (num_domains, hidden_dim), dtype)
    last = jax.random.normal(out_key, (hidden_dim, 1), dtype)
    start = float(identity_start and part == "gain")
    own = {
      "kernel": first * (2 / num_domains**0.5),
      "bias": jnp.zeros(hidden_dim, dtype),
      "scale": jnp.ones(hidden_dim, dtype),
      "shift": jnp.zeros(hidden_dim, dtype),
      "out_kernel": last * (0 if identity_start else 2 / hidden_dim**0.5),
      "out_bias": jnp.full(1, start, dtype),
    }
    params |= {f"{part}_{name}": value for name, value in own.items()}
    moving = running.start((hidden_dim,), dtype, mean=0, var=1)
    stats |= {f"{part}_{name}": value for name, value in moving.items()}
  if normalized:
    stats |= running.start(shape, dtype, mean=0, var=1)
  return {"params": params, "stats": stats}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  context: Any,
  num_domains: int,
  normalized: bool,
  momentum: float,
  eps: float,
  **_: Any,
):
  stats = dict(variables["stats"])
  needed = tuple(
    f"{part}_{name}" for part in _PARTS for name in ("mean", "var")
  )
  needed += ("mean", "var") if normalized else ()
  base.check_variables("scenario_bn", variables, "stats", needed)
  if normalized:
    base.check_features("scenario_bn", x, stats["mean"].size)
  domains.check_table("scenario_bn", variables, "gain_kernel", num_domains)
  wide = moments.promote(x)
  s = domains.features("scenario_bn", context, wide, num_domains)
  is_real = None
  if context is not None or mask is not None:
    is_real = jnp.all(jnp.isfinite(s), axis=1)
    if mask is not None:
      is_real &= jnp.any(mask.astype(bool), axis=tuple(range(1, mask.ndim)))

  normal = wide
  if normalized:
    (mean, var), stats = running.moments_of(
      "scenario_bn", wide, stats, mode, mask, momentum, "biased"
    )
    normal = (wide - mean) * lax.rsqrt(var + eps)
  made = []
  for part in _PARTS:
    own = _own(variables["params"], part, wide.dtype)
    hidden, moved = _standardized(
      s, own, _own(stats, part, wide.dtype), mode, is_real, momentum, eps
    )
    for name, value in moved.items():
      key = f"{part}_{name}"
      stats[key] = value.astype(stats[key].dtype)
    hidden = jax.nn.relu(hidden * own["scale"] + own["shift"])
    each = modulation.product(hidden, own["out_kernel"]) + own["out_bias"]
    made.append(domains.rows(each, wide))
  gain, offset = made
  return (normal * gain + offset).astype(x.dtype), stats


def _standardized(
  s: Array,
  own: Mapping[str, Array],
  stats: Mapping[str, Array],
  mode: modes.Mode,
  is_real: Array | None,
  momentum: float,
  eps: float,
) -> tuple[Array, Mapping[str, Array]]:
  """(h - mean) / sqrt(var + eps) of h = s kernel + bias, and new statistics.

  Of a batch that is (s - mean(s)) kernel over its deviation: where all examples
  are alike it is exactly 0, however large the reciprocal of sqrt(eps) is.
  """

  def by(used: Mapping[str, Array]) -> Array:
    hidden = modulation.product(s, own["kernel"]) + own["bias"]
    return (hidden - used["mean"]) * lax.rsqrt(used["var"] + eps)

  if mode.statistics == "running":
    return by(stats), stats
  base.check_batch("scenario_bn", s[:, :1])
  mask = None if is_real is None else is_real[:, None]
  center = moments.mean(s, (0,), mask)
  from_center = modulation.product(s - center, own["kernel"])
  at_center = modulation.product(center, own["kernel"])[0] + own["bias"]
  spread = moments.mean_square(from_center, (0,), mask)[0]
  batch = {"mean": at_center, "var": spread}
  count = moments.count(s, (0,), mask).reshape(-1)
  if mode.statistics == "blended":
    return by(running.blend(stats, batch, mode, count)), stats
  moved = running.advance(stats, batch, momentum, count)
  return from_center * lax.rsqrt(spread + eps), moved


def _own(
  values: Mapping[str, Array], part: str, dtype: DTypeLike
) -> dict[str, Array]:
  """What is of one of both networks, by its name in it."""
  return {
    name.removeprefix(f"{part}_"): value.astype(dtype)
    for name, value in values.items()
    if name.startswith(f"{part}_")
  }
