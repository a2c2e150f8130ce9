"""How many entries of each leaf a sparse zeroth-order step leaves as they are.

Which ones is drawn at random (`nn.shifted.is_kept`); only the shares may differ
by leaf. As in the sparse variant of arXiv:2402.11592, section 5, of whose code
(GPL-3) notes alone were read.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax import lax

from normjax import errors
from normjax.nn import shifted
from normjax.types import Array

# Counts are int32.
MAX_ENTRIES = 2**31 - 1
# Of the sign-free bits of a float32: as whole numbers they are in the order of
# the magnitudes.
_NUM_BITS = 31


def equal(leaves: Mapping[str, Array], sparsity: float) -> dict[str, Array]:
  """floor(s n) of each leaf's n entries, by path."""
  return {
    path: jnp.int32(shifted.num_zeros(leaf.size, sparsity))
    for path, leaf in leaves.items()
  }


def by_magnitude(
  leaves: Mapping[str, Array], sparsity: float
) -> dict[str, Array]:
  """As many of each leaf as it has among the floor(s n) smallest |w| of all n.

  The share of a layer is what pruning by magnitude over all layers would take
  of it. Of equals those of the first paths count. The bound is found by halving
  on the bits of |w|: exactly, by 31 counts, and no copy of w is made.

  Args:
    leaves: w of what is moved, by path.
    sparsity: s.

  Raises:
    UserError: more entries than int32 counts.
  """
  total = sum(leaf.size for leaf in leaves.values())
  if total > MAX_ENTRIES:
    raise errors.UserError(
      f"layer_sparsity='magnitude': {total:,} parameters; allowed: at most"
      f" {MAX_ENTRIES:,}, or 'equal'."
    )
  count = shifted.num_zeros(total, sparsity)
  paths = sorted(leaves)

  def counted(compare: Callable[[Array], Array]) -> Array:
    """How many of each leaf, in the order of the paths."""
    return jnp.stack(
      [
        jnp.sum(compare(_magnitude_bits(leaves[p])), dtype=jnp.int32)
        for p in paths
      ]
    )

  def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = low + (high - low) // 2
    enough = jnp.sum(counted(lambda bits: bits <= middle)) >= count
    return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

  first = (jnp.int32(0), jnp.int32(2**_NUM_BITS - 1))
  bound, _ = lax.fori_loop(0, _NUM_BITS, halve, first)
  below = counted(lambda bits: bits < bound)
  equals = counted(lambda bits: bits == bound)
  before = jnp.cumsum(equals) - equals
  found = below + jnp.clip(count - jnp.sum(below) - before, 0, equals)
  return dict(zip(paths, found, strict=True))


def _magnitude_bits(w: Array) -> Array:
  wide = jnp.abs(w.astype(jnp.float32))
  return lax.bitcast_convert_type(wide, jnp.int32)


TABLE: Mapping[
  str, Callable[[Mapping[str, Array], float], dict[str, Array]]
] = {"equal": equal, "magnitude": by_magnitude}
