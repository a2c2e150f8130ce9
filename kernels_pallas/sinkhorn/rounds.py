"""What the kernels share: a round is one pass over X and two short vectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas import safe
from kernels_pallas.precision import promote
from kernels_pallas.sinkhorn import ref

# (inverse, v, given, sums) -> (u, sums over the rows): see `balance`.
Pass = Callable[..., tuple[Array, Array | None]]


def by_kernel(
  balance: Callable[[list[Array], int, str], list[Array]],
  x: Any,
  num_iters: int,
  first: str,
) -> Any:
  """The op's results; under `vmap` the members are a batch."""

  @jax.custom_batching.custom_vmap
  def run(xs):
    return balance(xs, num_iters, first)

  @run.def_vmap
  def _(size, batched, xs):
    xs = [
      x if one else jnp.broadcast_to(x, (size, *x.shape))
      for x, one in zip(xs, batched[0], strict=True)
    ]
    out = run([x.reshape(-1, *x.shape[2:]) for x in xs])
    out = [y.reshape(size, -1, *y.shape[1:]) for y in out]
    return out, [True] * len(out)

  flat, structure = jax.tree.flatten(x)
  return structure.unflatten(run(flat))


def balance(
  xs: list[Array], num_iters: int, first: str, one_pass: Pass
) -> list[Array]:
  """Matrices of one shape, scaled on both sides.

  Args:
    xs: (batch, m, n) each; of all together the batch is b.
    num_iters: rounds.
    first: see `kernels_pallas.sinkhorn.sinkhorn`.
    one_pass: from 1 / max |x| (b,) and v (b, n), and with W = X / max |x|, to
      u (b, m) = sqrt(n) / |rows of W diag(v)|, or 1 if `given`; and to the sums
      over the rows of (diag(u) W)^2, (b, n), or None unless `sums`.
  """
  m, n = xs[0].shape[1:]
  largest = jnp.concatenate([jnp.max(jnp.abs(x), axis=(1, 2)) for x in xs])
  largest = promote(largest)
  # 1 / the smallest normal number is finite.
  tiny = jnp.finfo(largest.dtype).tiny
  inverse = safe.divide(
    jnp.where(largest == 0, 0, 1.0), jnp.maximum(largest, tiny)
  )
  v = jnp.ones((len(largest), n), largest.dtype)
  if first == "output":
    _, total = one_pass(inverse, v, given=True, sums=True)
    assert total is not None
    v = ref.side(total, m)
  u = jnp.ones((len(largest), m), largest.dtype)
  for left in reversed(range(num_iters)):
    sums = first == "reduction" or left > 0
    u, total = one_pass(inverse, v, given=False, sums=sums)
    if total is not None:
      v = ref.side(total, m)
  out, start = [], 0
  for x in xs:
    here = slice(start, start + len(x))
    scale = inverse[here, None] * u[here]
    # Left to XLA, which does it together with what becomes of the result.
    y = promote(x) * scale[:, :, None] * v[here, None, :]
    out.append(y.astype(x.dtype))
    start += len(x)
  return out
