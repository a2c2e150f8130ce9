"""Conditional batch normalization: de Vries and others 2017, arXiv:1707.00683.

The equations are second-hand; no official code was read.
"""

from typing import Any, Literal

from jax import lax

from normjax import validate
from normjax.norms import base, domains, modes, modulation, moments, running
from normjax.types import Array


def conditional_batch_norm(
  num_domains: int = 1,
  hidden_dim: int = 0,
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Literal["unbiased", "biased"] = "unbiased",
) -> base.Norm:
  """Batch normalization whose scale and bias depend on a condition.

      n = (x - mean) / sqrt(var + eps)
      y = n * (scale + f(s) gain_kernel) + bias + f(s) shift_kernel

  arXiv:1707.00683: all conditions share the statistics, which are those of
  `batch_norm`, and each has an offset to scale and bias. s is the `context`:
  features of the condition, (b, num_domains), or ids, whose f(s) gain_kernel is
  a row of a table, as in class-conditional networks (`normjax.norms.domains`).
  f is the identity, or a hidden layer as in the paper. Both kernels start at 0,
  which is this project's choice: the norm starts as batch norm.

  Statistics are float32 (float64 for float64), two passes; where a mask leaves
  fewer than two values, the running ones stay.

  Args:
    num_domains: how many conditions, or features of one, >= 1.
    hidden_dim: of f, relu(s hidden_kernel + hidden_bias); 0: the identity.
    momentum: weighs the old running value, in [0, 1].
    eps: inside the square root, > 0.
    running_variance: what enters the running variance: "unbiased" (PyTorch), or
      "biased".

  Raises:
    UserError: an option out of range; from `apply`, a context that is missing
      or does not fit, a training batch of one value per channel, or missing
      statistics.
  """
  name = "conditional_batch_norm"
  validate.count(name, "num_domains", num_domains, least=1)
  validate.count(name, "hidden_dim", hidden_dim, least=0)
  validate.number(name, "momentum", momentum, least=0, most=1)
  validate.number(name, "eps", eps, above=0)
  validate.choice(
    name, "running_variance", running_variance, ("unbiased", "biased")
  )
  return base.Norm(
    name=name,
    options={
      "num_domains": num_domains,
      "hidden_dim": hidden_dim,
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
    needs_key=hidden_dim > 0,
    kernels=modulation.kernels(hidden_dim),
  )


def _init(shape, dtype, **options: Any):
  return {
    "params": modulation.init(shape, dtype, **options),
    "stats": running.start(shape, dtype, mean=0, var=1),
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
  name = "conditional_batch_norm"
  stats = variables["stats"]
  base.check_variables(name, variables, "stats", ("mean", "var"))
  base.check_features(name, x, stats["mean"].size)
  modulation.check(name, variables, num_domains)
  wide = moments.promote(x)
  s = domains.features(name, context, wide, num_domains)
  (mean, var), stats = running.moments_of(
    name, wide, stats, mode, mask, momentum, running_variance
  )
  normalized = (wide - mean) * lax.rsqrt(var + eps)
  y = modulation.apply(normalized, variables["params"], s)
  return y.astype(x.dtype), stats
