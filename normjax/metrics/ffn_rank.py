"""Rank of what is inside the feed-forwards: hard, or soft.

Jha, Reagen 2026, arXiv:2605.21803, see `normjax.spectra`; how they are pooled
over layers was read in its code (optimizer-scaling-laws/spectral-scaling-laws,
MIT). The paper takes the median of five training steps of 0.5M tokens each;
here it is the tokens of an evaluation, which can be as many for small batches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from normjax import errors, validate
from normjax.metrics.activations import OfActivations
from normjax.metrics.base import Metric

if TYPE_CHECKING:
  from normjax.types import Array

SITES = ("pre", "post")
ALL = "all"


def hard(
  site: str = "post",
  bucket: str = ALL,
  layer: int | None = None,
  log: bool = False,
  tokens_per_feature: int = 20,
) -> Metric:
  """(sum lambda)^2 / sum lambda^2 of the activations' covariance.

      evaluate.metrics = ("ffn_hard_rank", "ffn_hard_rank(bucket='tail')")

  lambda are its eigenvalues over all tokens of an evaluation; the number is the
  median over layers. From 1 to the feed-forward's width D. Compare widths at
  the same tokens: of n tokens of white data the rank is D / (1 + D / n). Pre
  and post are not to be compared, either: squared ReLU raises a rank by itself.
  arXiv:2605.21803.

  Args:
    site: "post", what the nonlinearity gives (times the gate, where there is
      one), or "pre", what it is given.
    bucket: "all" tokens, or those whose frequency in the training text puts
      them in "head", "mid" or "tail", see `spectra.bucket_of_token`.
    layer: of this layer alone, from 0; None: the median over layers.
    log: whether the number is the rank's natural logarithm. An exponent is a
      weighted sum of these, see `statistics.power_law`.
    tokens_per_feature: an evaluation of fewer is refused before training.

  Raises:
    UserError: an option out of range.
  """
  return _metric("hard", site, bucket, layer, log, tokens_per_feature)


def soft(
  site: str = "post",
  bucket: str = ALL,
  layer: int | None = None,
  log: bool = False,
  tokens_per_feature: int = 20,
) -> Metric:
  """exp(-sum p log p), p = lambda / sum lambda: as `ffn_hard_rank` otherwise.

  arXiv:2605.21803.

  Args:
    site: see `ffn_hard_rank`, like all others.
    bucket: see `site`.
    layer: see `site`.
    log: see `site`.
    tokens_per_feature: see `site`.

  Raises:
    UserError: an option out of range.
  """
  return _metric("soft", site, bucket, layer, log, tokens_per_feature)


def _metric(
  kind: str,
  site: str,
  bucket: str,
  layer: int | None,
  log: bool,
  tokens_per_feature: int,
) -> Metric:
  from normjax import spectra  # Late: `normjax list` needs no jax.

  name = f"ffn_{kind}_rank"
  validate.choice(name, "site", site, SITES)
  validate.choice(name, "bucket", bucket, (ALL, *spectra.BUCKETS))
  validate.flags(name, log=log)
  validate.count(name, "tokens_per_feature", tokens_per_feature, least=0)
  if layer is not None:
    validate.count(name, "layer", layer, least=0)
  return _made(kind, site, bucket, layer, log, tokens_per_feature)


@functools.cache  # Of equal options it is one metric.
def _made(
  kind: str,
  site: str,
  bucket: str,
  layer: int | None,
  log: bool,
  tokens_per_feature: int,
) -> Metric:
  from normjax import spectra

  name = f"ffn_{kind}_rank"
  rank = {"hard": spectra.hard_rank, "soft": spectra.soft_rank}[kind]

  def least(shape: tuple[int, ...]) -> int:
    return max(2, tokens_per_feature * (shape[-1] - 1))

  return Metric(
    name,
    OfActivations(
      pattern=rf"/feed_forward/{site}/",
      sums=functools.partial(_sums, name, bucket, layer),
      constants=functools.partial(_buckets, name, bucket),
      least=least,
      counted=lambda batch, buckets: float(
        np.sum(_weight(bucket, batch, buckets))
      ),
    ),
    functools.partial(_finish, rank, log, least),
    targets="classes",
    needs="" if bucket == ALL else "token_counts",
  )


def _buckets(name: str, bucket: str, dataset: Any) -> tuple[int, ...] | None:
  """The bucket of each token; None where all tokens count."""
  from normjax import spectra

  if dataset.reads != "tokens":
    raise errors.UserError(
      f"{name!r} is of tokens; data {dataset.name!r} gives {dataset.reads}."
    )
  if bucket == ALL:
    return None
  return tuple(spectra.bucket_of_token(dataset.token_counts()).tolist())


def _weight(bucket: str, batch: Mapping[str, Any], buckets: Any) -> Any:
  """What each token counts, (b, t)."""
  from normjax import spectra

  if bucket == ALL:
    return batch["weight"]
  chosen = np.asarray(buckets) == spectra.BUCKETS.index(bucket)
  if isinstance(batch["inputs"], np.ndarray):
    return batch["weight"] * chosen[batch["inputs"]]
  import jax.numpy as jnp

  return batch["weight"] * jnp.asarray(chosen, jnp.float32)[batch["inputs"]]


def _sums(
  name: str,
  bucket: str,
  layer: int | None,
  layers_btf: list[Array],
  batch: Mapping[str, Any],
  buckets: Any,
) -> Array:
  """Pooled sums (l, f + 1, f + 1) of each layer."""
  import jax.numpy as jnp

  from normjax import spectra

  if layer is not None:
    if layer >= len(layers_btf):
      raise errors.UserError(
        f"{name}: layer={layer}; allowed: None, 0 to {len(layers_btf) - 1}."
      )
    layers_btf = layers_btf[layer : layer + 1]
  widths = sorted({h_btf.shape[-1] for h_btf in layers_btf})
  if len(widths) > 1:
    raise errors.UserError(
      f"{name} is a median over layers of one width; here are"
      f" {', '.join(map(str, widths))}. Allowed: layer=… for one of them."
    )
  weight = _weight(bucket, batch, buckets).reshape(-1)
  return jnp.stack(
    [
      spectra.pooled(h_btf.reshape(-1, h_btf.shape[-1]), weight)
      for h_btf in layers_btf
    ]
  )


def _finish(
  rank: Callable[[np.ndarray], float],
  log: bool,
  least: Callable[[tuple[int, ...]], int],
  sums_lee: np.ndarray,
  dataset: Any,
) -> float:
  del dataset
  from normjax import spectra

  tokens, needed = sums_lee[:, -1, -1].min(), least(sums_lee.shape)
  if tokens < needed:
    raise errors.UserError(
      f"a rank of {sums_lee.shape[-1] - 1} features by {tokens:,.0f} tokens;"
      f" needed: {needed:,} or more, or a smaller tokens_per_feature."
    )
  ranks = [
    rank(spectra.eigenvalues(spectra.covariance(sums_ee)))
    if np.isfinite(sums_ee).all()
    else math.nan
    for sums_ee in sums_lee
  ]
  median = float(np.median(ranks))
  return math.log(median) if log else median
