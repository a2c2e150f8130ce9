"""Softmax-free attention: Lu et al. 2021, arXiv:2110.11945."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from normjax import errors, norms, validate
from normjax.nn import roles
from normjax.nn.mixing import base
from normjax.nn.mixing.inverse import newton_inverse
from normjax.norms import moments
from normjax.types import Array

_TRAITS = base.MixingTraits(
  causal=False, grouped_queries=False, shared_query_key=True, rotation="none"
)
# With PyTorch's eps, as in the official code.
_NORM = {"name": "layer_norm", "eps": 1e-5}
_SITE = roles.NormSite("layer_norm", "landmark_norm")
_ROLES: roles.Declared = {
  "landmark/kernel": roles.kernel(None, "head_dim"),
  "landmark_norm/scale": roles.Role(roles.Kind.NORM_SCALE, norm=_SITE),
  "landmark_norm/bias": roles.Role(roles.Kind.NORM_BIAS, norm=_SITE),
}


def soft(
  normalize: bool = True,
  ratio: int = 2,
  grid: Sequence[int] | None = None,
  landmarks: Literal["conv", "mean"] = "conv",
  num_iterations: int = 20,
  ridge: float | None = None,
) -> base.Mixing:
  """Softmax-free attention with a Gaussian kernel and landmarks.

      q <- q / k^(1/4),  l = landmarks(q),  K(x, y) = exp(-|x - y|^2 / 2)
      K1 = K(q, l),  K2 = K(l, l) + ridge I,  D = diag(row sums of K(l, l))
      y = K1 D^-1/2 N(K2) D^-1/2 K1^T v      normalize (SOFT++)
      y = K1 N(K2) K1^T v                    not

  N is the inverse by Newton's iteration, see `newton_inverse`; its backward
  is that of the exact inverse. arXiv:2110.11945, and its extension for the
  normalized form. Keys are the queries: there is one projection for both.
  Bidirectional only, for landmarks hold tokens of the future. Landmarks are
  of runs of `ratio` tokens, or of squares of a grid; "conv" is a convolution
  whose kernel and stride are `ratio`, then layer norm and GELU (by
  erf), parameters `landmark` and `landmark_norm` shared by the heads. Masked
  keys count as 0 in "conv" and not at all in "mean". All of it is float32
  (float64 for float64); the result has the dtype of v.

  A trap of "conv": the norm puts landmarks at a distance near 0.65 sqrt(k) from
  0 whatever the size of q, so that exp(-|q - l|^2 / 2), hence the branch, is
  near 0 at first with wide heads (an rms of 1e-3 with k = 64 and q of 0.02).

  Where the official code differs: its normalized form starts Newton at
  2 / max(row sum)^2 over the whole batch, halved while |I - P V| is above
  1.01; an identity kernel then ends at 0, and examples depend on each other.
  Here both forms start at 0.9 of that, each matrix by its own row sums, which
  always converges. That form also differentiates through the iteration. The
  depthwise convolution of v is left out.

  Args:
    normalize: whether the symmetric normalization is applied.
    ratio: tokens of a landmark along an axis, > 1; divides the axis.
    grid: (height, width) of tokens in rows; None: they are a sequence.
    landmarks: "conv", or "mean" of the tokens without parameters.
    num_iterations: of Newton's.
    ridge: >= 0; None: 0.01 where not normalized and 0 where it is, as the
      official code has it.

  Raises:
    UserError: an option out of range; from `apply`, tokens that do not fill
      the grid or the landmarks.
  """
  validate.counts("soft", num_iterations=num_iterations)
  validate.count("soft", "ratio", ratio, least=2)
  validate.choice("soft", "landmarks", landmarks, ("conv", "mean"))
  if ridge is None:
    ridge = 0.0 if normalize else 0.01
  validate.number("soft", "ridge", ridge, least=0)
  if grid is not None:
    grid = tuple(grid)
    if len(grid) != 2:
      raise errors.UserError(f"soft: grid={grid} must be (height, width).")
    validate.counts("soft", height=grid[0], width=grid[1])
    if grid[0] % ratio or grid[1] % ratio:
      raise errors.UserError(
        f"soft: ratio={ratio} must divide both sides of grid={grid}."
      )
  options = {
    "normalize": bool(normalize),
    "ratio": ratio,
    "grid": grid,
    "landmarks": landmarks,
    "num_iterations": num_iterations,
    "ridge": ridge,
  }
  return base.Mixing(
    "soft", options, _TRAITS, _apply, _init, parameter_roles=_ROLES
  )


def _init(
  key: Array,
  num_heads: int,
  head_dim: int,
  *,
  ratio: int,
  grid: tuple[int, int] | None,
  landmarks: str,
  **_: Any,
):
  del num_heads
  if landmarks == "mean":
    return {}
  tokens = ratio if grid is None else ratio**2
  # PyTorch's default for a convolution, which the official code keeps.
  bound = 1 / math.sqrt(tokens * head_dim)
  kernel = jax.random.uniform(
    key, (tokens * head_dim, head_dim), jnp.float32, -bound, bound
  )
  norm = norms.resolve(_NORM).init((head_dim,))["params"]
  return {"landmark": {"kernel": kernel}, "landmark_norm": norm}


def gaussian_kernel(x: Array, y: Array) -> Array:
  """exp(-|x_i - y_j|^2 / 2), (..., i, j), of rows of x and y."""
  square_x = jnp.sum(jnp.square(x), axis=-1)[..., :, None]
  square_y = jnp.sum(jnp.square(y), axis=-1)[..., None, :]
  product = base.einsum("...ik,...jk->...ij", x, y)
  distance = jnp.maximum(square_x + square_y - 2 * product, 0)
  return jnp.exp(-distance / 2)


def _apply(
  params: Mapping[str, Any],
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  *,
  mask_bs: Array | None,
  normalize: bool,
  ratio: int,
  grid: tuple[int, int] | None,
  num_iterations: int,
  ridge: float,
  **_: Any,
):
  del k_bsgk
  # Letters as in `types`, and m for the landmarks.
  q_bhtk = moments.promote(q_bthk).swapaxes(1, 2) / q_bthk.shape[-1] ** 0.25
  v_bhtk = v_bsgk.astype(q_bhtk.dtype).swapaxes(1, 2)
  mask = None if mask_bs is None else mask_bs.astype(bool)[:, None, :, None]
  landmarks_bhmk = _landmarks(params, q_bhtk, mask, ratio, grid)
  to_landmarks = gaussian_kernel(q_bhtk, landmarks_bhmk)
  between = gaussian_kernel(landmarks_bhmk, landmarks_bhmk)
  inverse = newton_inverse(
    between + ridge * jnp.eye(between.shape[-1], dtype=between.dtype),
    num_iterations,
  )
  if normalize:
    root = jax.lax.rsqrt(jnp.sum(between, axis=-1))
    inverse *= root[..., :, None] * root[..., None, :]
  from_keys = to_landmarks if mask is None else jnp.where(mask, to_landmarks, 0)
  summed_bhmk = base.einsum("bhtm,bhtk->bhmk", from_keys, v_bhtk)
  weighted = base.einsum("bhmn,bhnk->bhmk", inverse, summed_bhmk)
  mixed = base.einsum("bhtm,bhmk->bthk", to_landmarks, weighted)
  return base.Mixed(mixed.astype(v_bsgk.dtype))


def _landmarks(
  params: Mapping[str, Any],
  q_bhtk: Array,
  mask: Array | None,
  ratio: int,
  grid: tuple[int, int] | None,
) -> Array:
  length = q_bhtk.shape[2]
  if grid is not None and length != grid[0] * grid[1]:
    raise errors.UserError(
      f"mixing 'soft': {length} tokens are no grid={grid} of"
      f" {grid[0] * grid[1]}; no class token fits in it."
    )
  if length % ratio:
    raise errors.UserError(
      f"mixing 'soft': {length} tokens are not a multiple of ratio={ratio},"
      " the tokens of one landmark; pad them with a mask, or choose a ratio"
      f" that divides {length}."
    )
  masked = q_bhtk if mask is None else jnp.where(mask, q_bhtk, 0)
  windows = _windows(masked, ratio, grid)
  if not params:
    total = jnp.sum(windows, axis=-2)
    if mask is None:
      return total / windows.shape[-2]
    kept = jnp.sum(_windows(mask.astype(q_bhtk.dtype), ratio, grid), axis=-2)
    return total / jnp.maximum(kept, 1)
  flat = windows.reshape(*windows.shape[:-2], -1)
  kernel = params["landmark"]["kernel"].astype(flat.dtype)
  projected = base.einsum("bhmi,io->bhmo", flat, kernel)
  normalized, _ = norms.resolve(_NORM).apply(
    {"params": params["landmark_norm"]}, projected
  )
  return jax.nn.gelu(normalized, approximate=False)


def _windows(x: Array, ratio: int, grid: tuple[int, int] | None) -> Array:
  """(b, h, t, k) to (b, h, m, tokens of a landmark, k)."""
  b, h, _, k = x.shape
  if grid is None:
    return x.reshape(b, h, -1, ratio, k)
  rows, columns = (side // ratio for side in grid)
  x = x.reshape(b, h, rows, ratio, columns, ratio, k)
  return x.swapaxes(3, 4).reshape(b, h, rows * columns, ratio**2, k)
