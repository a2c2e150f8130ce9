"""Low-rank updates of a matrix that is not trained: LoRA and ReLoRA.

Hu et al. 2021, arXiv:2106.09685; Lialin et al. 2023, arXiv:2307.05695, after
the official code, Guitaricet/relora (Apache-2.0), peft_pretraining/relora.py.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.nn import products, roles
from normjax.nn.linear import base
from normjax.nn.linear.restarting import Restarts
from normjax.types import Array


class LowRankUpdate(nnx.Module):
  """y = x W_0 + (alpha / r) x A B + bias; A, B and the bias are trained."""

  parameter_roles: ClassVar[roles.Declared] = {
    **base.FACTOR_ROLES,
    "frozen_kernel": dataclasses.replace(
      roles.kernel("in", "out"), kind=roles.Kind.STATISTIC
    ),
    "bias": roles.bias(),
  }

  def __init__(
    self,
    inputs: base.Axes,
    outputs: base.Axes,
    *,
    rank: int,
    alpha: float,
    restarts: Restarts | None = None,
    use_bias: bool,
    kernel_init: nnx.Initializer,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
  ):
    """Draws W_0 as a dense kernel would be, and A; B starts at zero.

    Args:
      inputs: sizes of the axes that it reads.
      outputs: of those that it gives.
      rank: r.
      alpha: over r it multiplies the product.
      restarts: when a trainer merges A B into W_0; None: never.
      use_bias: whether there is one; it starts at zero.
      kernel_init: of W_0, which is (*inputs, *outputs) to it.
      dtype: of the computation; what is held is float32.
      rngs: stream "params"; W_0 is that of a dense layer with the same key.

    Raises:
      UserError: a rank above the matrix's.
    """
    self.inputs, self.outputs = base.sizes(inputs), base.sizes(outputs)
    size_in, size_out = math.prod(self.inputs), math.prod(self.outputs)
    base.check_rank(rank, size_in, size_out)
    self.scale, self.dtype = alpha / rank, dtype
    self.restarts = restarts
    key = rngs.params()
    w_io = kernel_init(key, (size_in, size_out), jnp.float32)
    self.frozen_kernel = base.Untrained(w_io)
    self.lora_a = nnx.Param(self._drawn(jax.random.fold_in(key, 1), rank))
    self.lora_b = nnx.Param(jnp.zeros((rank, size_out)))
    if use_bias:
      rngs.params()  # A dense layer takes one.
    self.bias = nnx.Param(jnp.zeros(size_out)) if use_bias else None

  def _drawn(self, key: Array, rank: int) -> Array:
    size_in = math.prod(self.inputs)
    return base.uniform(key, (size_in, rank), size_in)

  def matrix(self) -> Array:
    """The matrix, (inputs, outputs)."""
    update = jnp.matmul(self.lora_a[...] * self.scale, self.lora_b[...])
    return self.frozen_kernel[...] + update

  def restart(self, key: Array) -> None:
    """Merges A B into W_0, draws A again and puts B to zero, in place.

    What the layer computes stays, up to rounding.
    """
    self.frozen_kernel.set_value(self.matrix())
    self.lora_a.set_value(self._drawn(key, self.lora_a[...].shape[1]))
    self.lora_b.set_value(jnp.zeros_like(self.lora_b[...]))

  def __call__(self, x: Array) -> Array:
    """(…, *inputs) to (…, *outputs)."""

    def times(x: Array, w: Array) -> Array:
      numbers = ((x.ndim - 1,), (0,)), ((), ())
      return products.dot_general(x, w.astype(self.dtype), numbers)

    def product(x: Array) -> Array:
      x = x.astype(self.dtype)
      y = times(x, self.frozen_kernel[...])
      y += times(times(x, self.lora_a[...]) * self.scale, self.lora_b[...])
      return y if self.bias is None else y + self.bias[...].astype(y.dtype)

    return base.rows(x, self.inputs, self.outputs, product)


def lora(rank: int = 128, alpha: float = 32.0) -> base.Linear:
  """W = W_0 + (alpha / r) A B, of which W_0 stays as it is drawn.

  From scratch that is a baseline of GaLore's tables (arXiv:2403.03507, from
  memory; its settings there were not read). W_0 takes memory, and is in no
  optimizer's state. A weight decay is one of A and B.

  Args:
    rank: r.
    alpha: over r it multiplies the product.

  Raises:
    UserError: a number out of range.
  """
  return _linear("lora", rank, alpha)


def relora(
  rank: int = 128,
  alpha: float = 32.0,
  restart_every: int = 5000,
  adjust_steps: int = 0,
  reset: str = "start",
  prune_ratio: float = 0.999,
) -> base.Linear:
  """LoRA whose A B is merged into W_0 every so many steps.

  Then A is drawn again, B is zero, and the optimizer's moments of both are
  too: see `normjax.train.restarts`. `schedule.name="cosine_restarts"` lets the
  learning rate rise from zero after each merge, as the paper has it.

  The paper's first phase is a run with dense matrices: its folder in
  `train.initialize_from` gives W_0 and all else. The official code then starts
  A at zero too; with B at zero neither would move before the first merge, so
  here A is drawn. Without that phase W_0 is as a dense matrix is drawn.

  The official code resets the optimizer by "random" with 0.999, which it means
  as all, and has "magnitude", of which its README recommends 0.9.

  Args:
    rank: r.
    alpha: over r it multiplies the product.
    restart_every: steps between merges.
    adjust_steps: by how many the first merge comes earlier.
    reset: of the optimizer's moments: "start", "random" or "magnitude".
    prune_ratio: of the last two, the share that is set to zero.

  Raises:
    UserError: a number out of range, or another reset.
  """
  restarts = Restarts(restart_every, adjust_steps, reset, prune_ratio)
  restarts.check("linear relora")
  return _linear("relora", rank, alpha, restarts)


def _linear(
  name: str, rank: int, alpha: float, restarts: Restarts | None = None
) -> base.Linear:
  validate.count(f"linear {name}", "rank", rank)
  validate.number(f"linear {name}", "alpha", alpha, above=0.0)

  def make(inputs, outputs, *, use_bias, kernel_init, dtype, rngs):
    return LowRankUpdate(
      inputs,
      outputs,
      rank=rank,
      alpha=alpha,
      restarts=restarts,
      use_bias=use_bias,
      kernel_init=kernel_init,
      dtype=dtype,
      rngs=rngs,
    )

  options = {"rank": rank, "alpha": alpha}
  return base.Linear(name, make, options, restarts=restarts)
