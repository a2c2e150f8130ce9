"""Muon: Keller Jordan 2024; Liu et al. 2025, arXiv:2502.16982 (Moonlight)."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, groups, meshes, routed, safe, stacking
from normjax.optim import dims as dims_lib
from normjax.optim.products import matmul, newton_schulz_dtype
from normjax.types import Array, PyTree

__all__ = ["muon", "orthogonalize", "scale_by_muon"]

NS_COEFFS = (3.4445, -4.7750, 2.0315)


class MuonState(NamedTuple):
  """State of `scale_by_muon`."""

  mu: PyTree  # The shapes of the parameters, in mu_dtype.


def orthogonalize(
  x_nij: Array,
  ns_coeffs: tuple[float, float, float] = NS_COEFFS,
  ns_steps: int | Array = 5,
  eps: float | Array = 1e-7,
) -> Array:
  """Moves all singular values of each matrix towards 1.

      X = X / (||X||_F + eps);  A = X X^T;  X = a X + (b A + c A A) X

  The quintic Newton-Schulz iteration does not converge: after five steps the
  singular values lie in about [0.7, 1.2]. It runs on the smaller side.

  Args:
    x_nij: a batch of matrices, float32 or float64 (or bfloat16, which is then
      the dtype of the products).
    ns_coeffs: a, b, c.
    ns_steps: number of iterations, may be traced.
    eps: added to the Frobenius norm.

  Returns:
    The shape and dtype of x.
  """
  a, b, c = ns_coeffs
  dtype = x_nij.dtype
  tall = x_nij.shape[-2] > x_nij.shape[-1]
  x = x_nij.mT if tall else x_nij
  x = safe.normalize(safe.promote(x), (-2, -1), eps).astype(dtype)

  def step(_, x):
    gram = matmul(x, x.mT)
    return a * x + matmul(b * gram + c * matmul(gram, gram), x)

  x = lax.fori_loop(0, ns_steps, step, x)
  return x.mT if tall else x


def polar_factors(
  matrices: Sequence[Array],
  ns_coeffs: tuple[float, float, float] = NS_COEFFS,
  ns_steps: int | Array = 5,
  eps: float | Array = 1e-7,
  ns_dtype: DTypeLike | None = None,
) -> list[Array]:
  """`orthogonalize` of each, one iteration for all of a shape, in `ns_dtype`.

  A matrix and its transpose share a group: only the wide one is iterated.
  """
  cast = [m.astype(newton_schulz_dtype(ns_dtype, m)) for m in matrices]
  tall = [m.shape[1] > m.shape[2] for m in cast]
  polar = stacking.stacked(
    lambda x: orthogonalize(x, ns_coeffs, ns_steps, eps),
    [m.mT if flip else m for m, flip in zip(cast, tall, strict=True)],
    whole=True,
  )
  return [
    (o.mT if flip else o).astype(m.dtype)
    for o, m, flip in zip(polar, matrices, tall, strict=True)
  ]


def momentum(
  gradients: PyTree, mu: PyTree, beta: float | Array, *, nesterov: bool
) -> tuple[PyTree, PyTree]:
  """The new moving average of the gradients, and what the step takes of it."""

  def average(m, g):
    return beta * safe.promote(m) + (1 - beta) * g

  mu = jax.tree.map(average, mu, gradients)
  return mu, jax.tree.map(average, mu, gradients) if nesterov else mu


def check_options(
  method: str,
  ns_coeffs: tuple[float, float, float],
  ns_steps: int | Array,
  beta: float | Array,
  eps: float | Array,
) -> None:
  """Checks the options of the momentum and the iteration."""
  validate.traced_count(method, "ns_steps", ns_steps)
  validate.betas(method, beta=beta)
  validate.scalars(method, eps=eps)
  validate.vector(method, "ns_coeffs", ns_coeffs, 3)


def _shape_scale(scaling: str, inputs: int, outputs: int) -> float:
  if scaling == "moonlight":
    return 0.2 * math.sqrt(max(outputs, inputs))
  return math.sqrt(max(1.0, outputs / inputs))


@validate.options
@meshes.on_any_mesh
def scale_by_muon(
  ns_coeffs: tuple[float, float, float] = NS_COEFFS,
  ns_steps: int | Array = 5,
  beta: float | Array = 0.95,
  eps: float | Array = 1e-7,
  mu_dtype: DTypeLike | None = None,
  *,
  nesterov: bool = True,
  scaling: str = "spectral",
  ns_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Momentum, orthogonalised; leaves without dims get their momentum.

  Arguments as in `muon`.
  """
  check_options("scale_by_muon", ns_coeffs, ns_steps, beta, eps)
  validate.choice(
    "scale_by_muon", "scaling", scaling, ("spectral", "moonlight")
  )

  def direction(momenta, entries):
    matrices = [
      dims_lib.to_matrices(m, entry)
      for m, entry in zip(momenta, entries, strict=True)
    ]
    polar = polar_factors(matrices, ns_coeffs, ns_steps, eps, ns_dtype)
    return [
      _shape_scale(scaling, *dims_lib.sizes(m.shape, entry))
      * dims_lib.from_matrices(o, m.shape, entry)
      for m, o, entry in zip(momenta, polar, entries, strict=True)
    ]

  def init(params):
    groups.check_leaves("scale_by_muon", params)
    dims_lib.resolve(dims, params)
    return MuonState(mu=compose.zeros(params, mu_dtype))

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    gradients = jax.tree.map(safe.promote, updates)

    mu, taken = momentum(gradients, state.mu, beta, nesterov=nesterov)
    moved = compose.on_matrices(direction, taken, dims)
    new = MuonState(mu=compose.cast_like(mu, state.mu))
    return compose.cast_like(moved, updates), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def muon(
  learning_rate: optax.ScalarOrSchedule,
  ns_coeffs: tuple[float, float, float] = NS_COEFFS,
  ns_steps: int | Array = 5,
  beta: float | Array = 0.95,
  eps: float | Array = 1e-7,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
  mu_dtype: DTypeLike | None = None,
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
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Momentum orthogonalised by Newton-Schulz, for the hidden matrices.

      m = beta m + (1 - beta) g;  u = beta m + (1 - beta) g   (nesterov)
      w -= lr (s orthogonalize(u) + wd w)
      s = sqrt(max(1, outputs / inputs))        scaling="spectral"
      s = 0.2 sqrt(max(outputs, inputs))        scaling="moonlight"

  As in Keller Jordan's Muon; the second scale is equation 4 of
  arXiv:2502.16982. A convolution is one matrix, (kh kw in, out). Matrices of
  one shape are stacked and iterated together. A zero gradient moves nothing.

  Its author has AdamW move the layer that reads the data too: "all the
  convolutional filters except the first one". Names don't tell that layer;
  for the models of `normjax.models` it is known, and so for a training run.

  Args:
    learning_rate: number, traced scalar or schedule.
    ns_coeffs: of the quintic iteration.
    ns_steps: number of iterations, may be traced.
    beta: decay of the momentum, in [0, 1).
    eps: added to the Frobenius norm before the iteration.
    weight_decay: rate of the decay of the matrices, >= 0, times lr.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored momentum; None takes the parameter's.
    nesterov: whether the gradient is mixed in once more.
    scaling: "spectral" or "moonlight".
    ns_dtype: of the iteration, whose products accumulate in float32; None
      takes bfloat16 on a GPU or TPU, as the reference, and float32 on a CPU.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for AdamW, as follows.
    fallback_learning_rate: of AdamW; None takes `learning_rate`, as Moonlight
      and optax do. Keller Jordan's is 3e-4 beside 0.02.
    fallback_b1: of AdamW, in [0, 1).
    fallback_b2: of AdamW, in [0, 1).
    fallback_eps: of AdamW.
    fallback_weight_decay: of AdamW; None takes `weight_decay`.
    nu_dtype: of AdamW's second moment; None takes float32 at least.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.muon(0.1)
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
    scale_by_muon,
    ns_coeffs,
    ns_steps,
    beta,
    eps,
    mu_dtype,
    nesterov=nesterov,
    scaling=scaling,
    ns_dtype=ns_dtype,
  )
  return routed.optimizer(
    "muon",
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
  return compose.routes("muon", dims, params)
