"""Sparse plus low-rank matrices: SLTrain, Han et al. 2024, arXiv:2406.02214.

Equations and starts are those of the official code, andyjm3/SLTrain at 2335d62
(Apache-2.0): splora/splora_linear.py and sparse-lora/sparse_linear.cpp.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.nn import products, roles
from normjax.nn.linear import base, factor_layout
from normjax.types import Array


class Factors(NamedTuple):
  """What a matrix W (i, o) is made of; what is None is not there.

  Attributes:
    a_ir: A.
    b_ro: B.
    values_n: entries of S.
    support_n: their positions in the flat (i o,), ascending, none twice.
  """

  a_ir: Array | None
  b_ro: Array | None
  values_n: Array | None
  support_n: Array | None


def matrix(factors: Factors, shape: tuple[int, int], scale: float) -> Array:
  """W = scale A B + S.

  Args:
    factors: in one dtype.
    shape: (i, o).
    scale: alpha / r.
  """
  a_ir, b_ro, values_n, support_n = factors
  if values_n is None:
    return jnp.matmul(a_ir * scale, b_ro)
  if a_ir is None:
    flat = jnp.zeros(math.prod(shape), values_n.dtype)
  else:
    flat = jnp.matmul(a_ir * scale, b_ro).reshape(-1)
  added = flat.at[support_n].add(
    values_n,
    unique_indices=True,
    indices_are_sorted=True,
    mode="promise_in_bounds",
  )
  return added.reshape(shape)


def apply(
  x: Array,
  factors: Factors,
  shape: tuple[int, int],
  scale: float,
  dtype: jnp.dtype,
) -> Array:
  """Y = x W, of which the backward pass keeps x and the factors.

  It makes W again, as the official one does; dW = x^T dy is a temporary:

      dx = dy W^T   dA = scale dW B^T   dB = scale A^T dW   dS = dW at support

  Args:
    x: (…, i).
    factors: of W.
    shape: (i, o).
    scale: alpha / r.
    dtype: of the computation, and of y.
  """

  # The barrier in it keeps XLA from keeping the forward pass's W instead, and
  # unlike a custom_vjp it has forward mode, too.
  @jax.checkpoint
  def product(x: Array, factors: Factors) -> Array:
    *floats, support_n = factors
    x, *floats = jax.tree.map(lambda leaf: leaf.astype(dtype), [x, *floats])
    a_ir, b_ro, values_n = floats
    if a_ir is not None and values_n is not None:
      # Inside, so that what is gathered is not kept for the backward pass.
      a_ir, b_ro = map(factor_layout.gathered, (a_ir, b_ro))
    w_io = matrix(Factors(a_ir, b_ro, values_n, support_n), shape, scale)
    numbers = ((x.ndim - 1,), (0,)), ((), ())
    return products.dot_general(x, w_io, numbers)

  return product(x, factors)


def draw_support(key: Array, inputs: int, outputs: int, count: int) -> Array:
  """Flat positions of a uniform draw without replacement, ascending, int32.

  Every device of a mesh, and every member of a population, has the same of a
  key.
  """
  drawn = jax.random.permutation(key, inputs * outputs)[:count]
  return jnp.sort(drawn.astype(jnp.int32))


def spectral_start(
  w_io: Array, rank: int, scale: float, a_ir: Array
) -> tuple[Array, Array]:
  """A and B whose product is the nearest matrix of that rank to a dense start.

      W = U diag(s) V^T,  A = U_r diag(t),  B = diag(t) V_r^T,
      t = sqrt(s_r / scale)

  Where w = 0, A is `a_ir` and B = 0: of two zeros no gradient moves either.

  Args:
    w_io: the start of a dense kernel, (i, o) float32.
    rank: r.
    scale: alpha / r.
    a_ir: of a matrix that starts at zero.
  """
  u, s, vt = jnp.linalg.svd(w_io, full_matrices=False)
  root_r = jnp.sqrt(s[:rank] / scale)
  a, b_ro = u[:, :rank] * root_r, root_r[:, None] * vt[:rank]
  return jnp.where(s[0] > 0, a, a_ir), jnp.where(s[0] > 0, b_ro, 0.0)


class SparseLowRank(nnx.Module):
  """y = x ((alpha / r) A B + S) + bias, S on a fixed random support."""

  parameter_roles: ClassVar[roles.Declared] = {
    **base.FACTOR_ROLES,
    "sparse_values": roles.entries(),
    "bias": roles.bias(),
  }

  def __init__(
    self,
    inputs: base.Axes,
    outputs: base.Axes,
    *,
    rank: int,
    density: float,
    alpha: float,
    use_bias: bool,
    kernel_init: nnx.Initializer,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
  ):
    """Draws A and S uniformly within 1/sqrt(inputs); B starts at zero.

    Without S, A and B start as `spectral_start` says.

    Args:
      inputs: sizes of the axes that it reads.
      outputs: of those that it gives.
      rank: r; 0: S alone.
      density: share of the entries that S has; 0: the product alone.
      alpha: over r it multiplies the product.
      use_bias: of U(-1/sqrt(outputs), 1/sqrt(outputs)) at first.
      kernel_init: asked only without S; the matrix is (inputs, outputs) to it.
      dtype: of the computation; parameters are float32.
      rngs: stream "params"; as many keys as a dense layer takes, so that what
        else a model draws does not depend on how its matrices are held.

    Raises:
      UserError: a rank above the matrix's, or a matrix with nothing in it.
    """
    self.inputs, self.outputs = base.sizes(inputs), base.sizes(outputs)
    size_in, size_out = math.prod(self.inputs), math.prod(self.outputs)
    base.check_rank(rank, size_in, size_out)
    count = int(density * size_in * size_out)
    # A share that rounds down to nothing would be `low_rank` under the name of
    # `sltrain`.
    if not count and (density or not rank):
      validate.refuse(
        "linear",
        "density",
        density,
        f"an entry or more of a matrix ({size_in}, {size_out}), or 0 with a"
        " rank >= 1",
      )
    self.scale, self.dtype = (alpha / rank if rank else 0.0), dtype
    key = rngs.params()
    keys = jax.random.split(key, 3)

    def uniform(key: Array, *shape: int) -> nnx.Param:
      return nnx.Param(base.uniform(key, shape, size_in))

    self.lora_a = uniform(keys[0], size_in, rank) if rank else None
    self.lora_b = nnx.Param(jnp.zeros((rank, size_out))) if rank else None
    if not count:
      w_io = kernel_init(key, (size_in, size_out), jnp.float32)
      a_ir, b_ro = spectral_start(w_io, rank, self.scale, self.lora_a[...])
      self.lora_a.set_value(a_ir)
      self.lora_b.set_value(b_ro)
    self.sparse_values = uniform(keys[1], count) if count else None
    self.support = (
      base.Untrained(draw_support(keys[2], size_in, size_out, count))
      if count
      else None
    )
    self.bias = (
      nnx.Param(base.uniform(rngs.params(), (size_out,), size_out))
      if use_bias
      else None
    )

  @property
  def shape(self) -> tuple[int, int]:
    """Of the matrix, (inputs, outputs)."""
    return math.prod(self.inputs), math.prod(self.outputs)

  @property
  def factors(self) -> Factors:
    """What the matrix is made of."""
    variables = self.lora_a, self.lora_b, self.sparse_values, self.support
    return Factors(*(v if v is None else v[...] for v in variables))

  def matrix(self) -> Array:
    """The matrix, (inputs, outputs)."""
    return matrix(self.factors, self.shape, self.scale)

  def __call__(self, x: Array) -> Array:
    """(…, *inputs) to (…, *outputs)."""

    def product(x: Array) -> Array:
      y = apply(x, self.factors, self.shape, self.scale, self.dtype)
      return y if self.bias is None else y + self.bias[...].astype(y.dtype)

    return base.rows(x, self.inputs, self.outputs, product)


def sltrain(
  rank: int = 128, density: float = 0.03, alpha: float = 32.0
) -> base.Linear:
  """W = (alpha / r) A B + S, S on a random support that stays.

  At first W = S: A is drawn, B is 0. The kernel's start of a placement or of
  `model.init` is not asked. Without S the start is that of `low_rank`. Where a
  matrix has more than 1/32 of its entries, int32 positions take more bytes than
  a mask would. The defaults are the official ones for LLaMA of 60M.

  States of 4 bits stay in float32 where S has an odd number of entries, as
  0.03 of a matrix often has; `normjax memory` shows them.

  A weight decay is one of A, B and S, not of W. A matrix method takes A and B
  each for a matrix; S goes to its fallback.

  Args:
    rank: r; 0: S alone.
    density: the share delta of the entries that S has, floor(delta i o); 0: the
      product alone.
    alpha: over r it multiplies the product.

  Raises:
    UserError: a number out of range.
  """
  validate.count("linear sltrain", "rank", rank, least=0)
  validate.number("linear sltrain", "density", density, least=0.0, most=1.0)
  validate.number("linear sltrain", "alpha", alpha, above=0.0)

  def make(inputs, outputs, *, use_bias, kernel_init, dtype, rngs):
    return SparseLowRank(
      inputs,
      outputs,
      rank=rank,
      density=density,
      alpha=alpha,
      use_bias=use_bias,
      kernel_init=kernel_init,
      dtype=dtype,
      rngs=rngs,
    )

  return base.Linear(
    "sltrain", make, {"rank": rank, "density": density, "alpha": alpha}
  )


def low_rank(rank: int = 128, alpha: float = 32.0) -> base.Linear:
  """W = (alpha / r) A B and nothing else: the baseline of these papers.

  The product starts nearest to what a dense matrix would start at: the spectral
  start of Khodak et al. 2021, arXiv:2105.01029, from which Kamalakara et al.
  2022, arXiv:2209.13569, train such matrices (both second-hand). With B = 0, as
  in `sltrain`, all matrices of a block would be 0, and no gradient would move
  any of them.

  Args:
    rank: r.
    alpha: over r it multiplies the product.

  Raises:
    UserError: a number out of range.
  """
  validate.count("linear low_rank", "rank", rank)
  made = sltrain(rank, 0.0, alpha)
  return dataclasses.replace(made, name="low_rank")
