"""NorMuon: Li et al. 2025, arXiv:2510.05491."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, groups, meshes, projection, routed, safe
from normjax.optim import dims as dims_lib
from normjax.optim.muon import (
  NS_COEFFS,
  check_options,
  momentum,
  polar_factors,
)
from normjax.types import Array, PyTree

__all__ = ["normuon", "scale_by_normuon"]

# Added to the root of the second moment and to the norm that divides.
_EPS = 1e-10
_SCALINGS = ("spectral", "rms")


class NorMuonState(NamedTuple):
  """State of `scale_by_normuon`."""

  mu: PyTree  # The shapes of the parameters, in mu_dtype.
  nu: PyTree  # (n, outputs), of the polar factor's squares, in nu_dtype.


def _normalize(o_nij: Array, v_nj: Array, scaling: str) -> Array:
  """Divides each unit by sqrt(v), and sets the size of the whole."""
  inputs, outputs = o_nij.shape[1:]
  scaled = safe.divide(o_nij, jnp.sqrt(v_nj)[:, None] + _EPS)
  size = safe.norm(scaled, (1, 2)) + _EPS
  if scaling == "rms":
    return 0.2 * math.sqrt(inputs * outputs) / size * scaled
  before = safe.norm(o_nij, (1, 2))
  return math.sqrt(max(1.0, outputs / inputs)) * before / size * scaled


@validate.options
@meshes.on_any_mesh
def scale_by_normuon(
  ns_coeffs: tuple[float, float, float] = NS_COEFFS,
  ns_steps: int | Array = 5,
  beta: float | Array = 0.95,
  b2: float | Array = 0.95,
  eps: float | Array = 1e-7,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  *,
  nesterov: bool = True,
  scaling: str = "spectral",
  ns_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Orthogonalised momentum, its units normalised.

  Leaves without dims get their momentum. Arguments as in `normuon`.
  """
  method = "scale_by_normuon"
  check_options(method, ns_coeffs, ns_steps, beta, eps)
  validate.betas(method, b2=b2)
  validate.choice(method, "scaling", scaling, _SCALINGS)

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    flat = jax.tree.leaves(params)
    nu = []
    for n, entry in entries.items():
      w = flat[n]
      batch, _, outputs = projection.matrix_shape(w.shape, entry)
      spec = meshes.matrix_spec(w, entry)[::2]
      dtype = compose.dtype_of_squares(w, nu_dtype)
      nu.append(meshes.zeros(w, (batch, outputs), dtype, spec))
    return NorMuonState(
      mu=compose.zeros(params, mu_dtype),
      nu=projection.tree_of(nu, params, entries),
    )

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    gradients = jax.tree.map(safe.promote, updates)
    mu, taken = momentum(gradients, state.mu, beta, nesterov=nesterov)
    entries = projection.chosen(dims, updates)
    flat = jax.tree.leaves(taken)
    like = [flat[n] for n in entries]
    polar = polar_factors(
      projection.to_matrices(like, entries), ns_coeffs, ns_steps, eps, ns_dtype
    )
    nu = [
      b2 * safe.promote(v) + (1 - b2) * jnp.mean(o * o, axis=1)
      for o, v in zip(polar, jax.tree.leaves(state.nu), strict=True)
    ]
    moved = [_normalize(o, v, scaling) for o, v in zip(polar, nu, strict=True)]
    moved = projection.from_matrices(moved, like, entries)
    moved = projection.replace(taken, moved, entries)
    new = NorMuonState(
      mu=compose.cast_like(mu, state.mu),
      nu=compose.cast_like(projection.tree_of(nu, updates, entries), state.nu),
    )
    return compose.cast_like(moved, updates), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def normuon(
  learning_rate: optax.ScalarOrSchedule,
  ns_coeffs: tuple[float, float, float] = NS_COEFFS,
  ns_steps: int | Array = 5,
  beta: float | Array = 0.95,
  b2: float | Array = 0.95,
  eps: float | Array = 1e-7,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  *,
  nesterov: bool = True,
  scaling: str = "spectral",
  ns_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
  fallback: optax.GradientTransformation | None = None,
  fallback_learning_rate: optax.ScalarOrSchedule | None = None,
  fallback_b1: float | Array = 0.9,
  fallback_b2: float | Array = 0.95,
  fallback_eps: float | Array = 1e-10,
  fallback_weight_decay: float | Array | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Muon whose units all move alike, by a second moment for each.

      m = beta m + (1 - beta) g;  u = beta m + (1 - beta) g   (nesterov)
      o = orthogonalize(u)
      v = b2 v + (1 - b2) mean over the inputs of o^2         for each output
      d = o / (sqrt(v) + 1e-10)
      d = sqrt(max(1, outputs / inputs)) ||o|| d / ||d||      scaling="spectral"
      d = 0.2 sqrt(inputs outputs) d / ||d||                  scaling="rms"
      w -= lr (d + wd w)

  arXiv:2510.05491, whose algorithm has "rms"; the official code has
  "spectral", which keeps Muon's norm and learning rate, and Nesterov's
  momentum, which the algorithm has not. v is not corrected for bias: the
  normalisation of d cancels a factor that all units share. A convolution is
  one matrix, (kh kw in, out), also for v, where the official code takes the
  mean over the kernel's width only.

  Statistics are in float32. Matrices of one shape are iterated together. A
  zero gradient moves nothing; a NaN spoils its matrix. What moves the layer
  that reads the data is as in `muon`.

  Args:
    learning_rate: number, traced scalar or schedule.
    ns_coeffs: of the quintic iteration.
    ns_steps: number of iterations, may be traced.
    beta: decay of the momentum, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added to the Frobenius norm before the iteration.
    weight_decay: rate of the decay of the matrices, >= 0, times lr.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored momentum; None takes the parameter's.
    nu_dtype: of the stored second moments, AdamW's too; None takes float32
      at least.
    nesterov: whether the gradient is mixed in once more.
    scaling: "spectral" or "rms".
    ns_dtype: of the iteration, whose products accumulate in float32; None
      takes bfloat16 on a GPU or TPU, as the reference, and float32 on a CPU.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for AdamW, as follows.
    fallback_learning_rate: of AdamW; None takes `learning_rate`. The official
      code's is 3e-4 beside 0.02.
    fallback_b1: of AdamW, in [0, 1).
    fallback_b2: of AdamW, in [0, 1).
    fallback_eps: of AdamW.
    fallback_weight_decay: of AdamW; None takes `weight_decay`.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.normuon(0.1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.28
    6.62
    6.00
  """
  direction = functools.partial(
    scale_by_normuon,
    ns_coeffs,
    ns_steps,
    beta,
    b2,
    eps,
    mu_dtype,
    nu_dtype,
    nesterov=nesterov,
    scaling=scaling,
    ns_dtype=ns_dtype,
  )
  return routed.optimizer(
    "normuon",
    direction,
    learning_rate,
    weight_decay=weight_decay,
    mask=mask,
    dims=dims_lib.inner(dims),
    fallback=routed.Fallback(
      fallback,
      fallback_learning_rate,
      fallback_b1,
      fallback_b2,
      fallback_eps,
      fallback_weight_decay,
      mu_dtype,
      nu_dtype,
    ),
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  dims = dims_lib.inner(options.get("dims"))
  return compose.routes("normuon", dims, params)
