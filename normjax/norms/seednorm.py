"""Self-rescaled dynamic normalization: arXiv:2510.22777."""

from typing import Any, Literal

import jax.numpy as jnp
from jax.typing import DTypeLike

from kernels_pallas.seednorm import api as kernel
from kernels_pallas.seednorm import ref
from normjax import errors, validate
from normjax.norms import affine, base, recompute
from normjax.types import Array

DotDivisor = Literal["none", "features", "head_features"]


def seednorm(
  num_heads: int = 1,
  eps: float = 1e-6,
  alpha_init: float = 1.0,
  dot_divisor: DotDivisor = "none",
) -> base.Norm:
  """SeeDNorm: an RMS normalization whose gain depends on the token.

      y = (tanh(x . beta) * alpha + scale) * x / sqrt(mean(x^2) + eps)

  arXiv:2510.22777. The dot product is of x as it comes, not of the normalised
  one: y depends on the norm of x once beta has left 0, and tanh saturates
  where x is large. With several heads (the paper's vision models) x and beta
  are cut into `num_heads` slices of neighbouring features; each has its own
  dot product and tanh, for its slice of alpha. The mean square is over all d.
  Statistic, dot product and gain are in float32 (float64 for float64). With one
  head it is a kernel, `kernels_pallas.seednorm`, where a device has proved it.

  It starts as `rms_norm`, since beta starts at 0. alpha then has no gradient,
  and beta has one only through alpha: alpha_init=0 never leaves the start.

  The paper decays alpha and beta, and scale as the baseline does. The default
  `mask` of normjax's optimizers decays no gains, these two included;
  `mask=optim.by_path([(".*/(alpha|beta)", True), (".*(scale|bias)", False),
  (".*", True)])` does as the paper. The dropout that its vision models put on
  the dynamic term is not here: a norm has no random numbers after `init`.

  Args:
    num_heads: slices of x and beta; divides d. Public notes on the paper's
      ViT-B report divergence with 1 head and the best accuracy with 16.
    eps: inside the square root, > 0; that of `rms_norm` here. A public port
      has 1e-5.
    alpha_init: where `alpha`, shape (d,), starts.
    dot_divisor: what x . beta is divided by, an extra for vision: "none";
      "features", the d of x; "head_features", the d / num_heads of a slice.
      Public notes only say "the dimension", so both readings are here.

  Raises:
    UserError: an option out of range; from `init`, features that num_heads
      does not divide.
  """
  validate.count("seednorm", "num_heads", num_heads, least=1)
  validate.number("seednorm", "eps", eps, above=0)
  validate.number("seednorm", "alpha_init", alpha_init)
  validate.choice(
    "seednorm",
    "dot_divisor",
    dot_divisor,
    ("none", "features", "head_features"),
  )
  return base.Norm(
    name="seednorm",
    options={
      "num_heads": num_heads,
      "eps": eps,
      "alpha_init": alpha_init,
      "dot_divisor": dot_divisor,
    },
    traits=base.NormTraits(statistics="per_example"),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(
  shape: tuple[int, ...],
  dtype: DTypeLike,
  *,
  num_heads: int,
  alpha_init: float,
  **_: Any,
):
  features = shape[-1]
  if features % num_heads:
    divisors = [n for n in range(1, features + 1) if not features % n]
    raise errors.UserError(
      f"seednorm: num_heads={num_heads} does not divide the {features} features"
      f" of the last axis. Use one of {divisors}, or other features."
    )
  own = {
    "alpha": jnp.full((features,), alpha_init, dtype),
    "beta": jnp.zeros((features,), dtype),
  }
  return {"params": own | affine.init(shape, dtype, use_bias=False)}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  num_heads: int,
  eps: float,
  dot_divisor: DotDivisor,
  **_: Any,
):
  params = variables["params"]
  affine.check("seednorm", x, params)
  features = x.shape[-1]
  divisor = {
    "none": 1,
    "features": features,
    "head_features": features // num_heads,
  }[dot_divisor]
  arguments = params["alpha"], params["beta"], params["scale"]
  options = eps, divisor, num_heads
  op = kernel.of_heads(num_heads)
  chosen = op.choose(None, x, *arguments)
  if chosen.silicon:
    y = op(x, *arguments, *options, impl=chosen.name)
    return y, variables["stats"]

  def plain(arguments, x):
    alpha, beta, scale = arguments
    return ref.seednorm(x, alpha, beta, scale, *options, keep=recompute.kept)

  return recompute.by_rows(plain, arguments, x), variables["stats"]
