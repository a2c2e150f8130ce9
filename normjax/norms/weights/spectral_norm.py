"""Spectral normalization: Miyato and others 2018, arXiv:1802.05957."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import modes, moments
from normjax.norms.weights import base
from normjax.types import Array


def spectral_norm(
  num_iterations: int = 1, initial_iterations: int = 0, eps: float = 1e-12
) -> base.WeightNorm:
  """Spectral normalization: the largest singular value is near 1.

      v <- W^T u / ||W^T u||,  u <- W v / ||W v||
      w' = w / sigma,  sigma = u^T W v

  arXiv:1802.05957, algorithm 1. W is the kernel as a matrix of a row an
  output, (o, i) or (o, y x i), as there and in PyTorch; a grouped kernel is one
  such matrix too. u and v are statistics: each training step starts the power
  iteration where the last one ended, evaluation takes both as they are. For
  gradients they are constants, so that, as in the paper's analysis,

      dw = (dw' - <dw', w'> u v^T) / sigma

  As in torch.nn.utils.spectral_norm, evaluation has the v of the last training
  step, which saw the kernel before its update; the paper's Chainer code makes
  a new one there. Without `initial_iterations`, as in both, sigma is at first
  below the largest singular value, and w' too large. PyTorch's newer
  parametrizations.spectral_norm begins with fifteen, and turns u before v. A
  kernel of zeros stays zero. All is float32 (float64 for float64), products
  in full precision.

  Statistics, of length 1: `u` (o,), drawn from a normal distribution at first;
  `v`, flat, of the kernel's other axes, from u.

  Args:
    num_iterations: of each training step, >= 1.
    initial_iterations: of `init`.
    eps: vectors not longer than this leave u or v as it was; > 0.

  Raises:
    UserError: an option out of range; from `apply`, statistics that are
      missing or of another kernel.
  """
  validate.count("spectral_norm", "num_iterations", num_iterations, least=1)
  validate.count(
    "spectral_norm", "initial_iterations", initial_iterations, least=0
  )
  validate.number("spectral_norm", "eps", eps, above=0)
  return base.WeightNorm(
    name="spectral_norm",
    options={
      "num_iterations": num_iterations,
      "initial_iterations": initial_iterations,
      "eps": eps,
    },
    init_fn=_init,
    apply_fn=_apply,
    needs_key=True,
  )


def _product(a: Array, b: Array) -> Array:
  return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _unit(x: Array, otherwise: Array, eps: float) -> Array:
  """Of length 1; `otherwise` where x has none: u outlives a kernel of zeros."""
  length = jnp.linalg.norm(x)
  return jnp.where(length > eps, x / jnp.maximum(length, eps), otherwise)


def _matrix(kernel: Array) -> Array:
  """W^T: a column an output, (…, o)."""
  return moments.promote(kernel).reshape(-1, kernel.shape[-1])


def _iterate(
  transposed: Array, u: Array, v: Array, count: int, eps: float
) -> tuple[Array, Array]:
  """Both after `count` rounds of algorithm 1."""
  for _ in range(count):
    v = _unit(_product(transposed, u), v, eps)
    u = _unit(_product(v, transposed), u, eps)
  return u, v


def _init(
  kernel: Array,
  key: Array | None,
  *,
  initial_iterations: int,
  eps: float,
  **_: Any,
):
  transposed = _matrix(kernel)
  key = jax.random.key(0) if key is None else key
  drawn = jax.random.normal(key, kernel.shape[-1:], transposed.dtype)
  u = drawn / jnp.linalg.norm(drawn)
  product = _product(transposed, u)
  v = _unit(product, product, eps)
  u, v = _iterate(transposed, u, v, initial_iterations, eps)
  return {"stats": {"u": u, "v": v}}


def _apply(
  variables: base.Variables,
  kernel: Array,
  *,
  mode: modes.Mode,
  num_iterations: int,
  eps: float,
  **_: Any,
):
  transposed = _matrix(kernel)
  shapes = {"u": transposed.shape[1:], "v": transposed.shape[:1]}
  stats = variables["stats"]
  u, v = base.checked_variables("spectral_norm", variables, "stats", shapes)
  if mode.statistics == "batch":
    u, v = lax.stop_gradient(_iterate(transposed, u, v, num_iterations, eps))
    dtypes = {name: stats[name].dtype for name in shapes}
    stats = {"u": u.astype(dtypes["u"]), "v": v.astype(dtypes["v"])}
  # Statistics are not what the gradient of a loss is taken to either.
  u, v = (lax.stop_gradient(x).astype(transposed.dtype) for x in (u, v))
  sigma = _product(_product(v, transposed), u)
  sigma = jnp.where(sigma == 0, 1, sigma)
  return (moments.promote(kernel) / sigma).astype(kernel.dtype), stats
