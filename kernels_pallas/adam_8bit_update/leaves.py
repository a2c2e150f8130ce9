"""Trees of leaves, as the op has them, for what updates lists of them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas.adam_8bit_update import ref
from kernels_pallas.adam_8bit_update.ref import Blocks, Leaf, Scalars
from kernels_pallas.codes import Quantized

# (leaves, gradients, scalars, decayed=, blocks=) -> leaves.
Update = Callable[..., list[Leaf]]
Trees = tuple[Any, Any, Any, Any, Any]

_BLOCKS = Blocks()


def rows(parameters: Any, *columns: Any) -> tuple[list[tuple], Any]:
  """The arguments of each leaf, and the parameters' structure."""
  flat, structure = jax.tree.flatten(parameters)
  others = map(structure.flatten_up_to, columns)
  return list(zip(flat, *others, strict=True)), structure


def flags(decayed: Any, structure: Any) -> list[bool]:
  """Whether each leaf decays, of one boolean or a tree of them."""
  if isinstance(decayed, bool):
    return [decayed] * structure.num_leaves
  return structure.flatten_up_to(decayed)


def trees(moved: Sequence[Sequence[Any]], structure: Any) -> Trees:
  """What the op returns, of the five results of each leaf."""
  w, *moments = (structure.unflatten(row[n] for row in moved) for n in range(5))
  return w, *moments


def of_trees(
  update: Update,
  parameters: Any,
  gradients: Any,
  mu_codes: Any,
  mu_absmax: Any,
  nu_codes: Any,
  nu_absmax: Any,
  scalars: Scalars | Array,
  *,
  decayed: Any = True,
  blocks: Blocks = _BLOCKS,
) -> Trees:
  """The op's results by an `update`; arguments as the op's."""
  given, structure = rows(
    parameters, gradients, mu_codes, mu_absmax, nu_codes, nu_absmax
  )
  moved = update(
    [
      Leaf(w, Quantized(*moments[:2]), Quantized(*moments[2:]))
      for w, _, *moments in given
    ],
    [row[1] for row in given],
    Scalars(*scalars),
    decayed=flags(decayed, structure),
    blocks=blocks,
  )
  return trees(
    [(leaf.parameter, *leaf.mu, *leaf.nu) for leaf in moved], structure
  )


def plain(form: str) -> Update:
  """The reference, leaf by leaf, by a form of the codes."""

  def update(leaves, gradients, scalars, *, decayed, blocks):
    each = zip(leaves, gradients, decayed, strict=True)
    return [
      ref.update_leaf(leaf, g, scalars, decayed=decay, blocks=blocks, form=form)
      for leaf, g, decay in each
    ]

  return update


def by_kernel(kernel: Update) -> Update:
  """The kernel; under `vmap` plain operations take its place."""

  def update(
    leaves: Sequence[Leaf],
    gradients: Sequence[Array],
    scalars: Scalars,
    *,
    decayed: Sequence[bool],
    blocks: Blocks,
  ) -> list[Leaf]:
    options = {"decayed": decayed, "blocks": blocks}

    @jax.custom_batching.custom_vmap
    def run(leaves, gradients, scalars):
      return kernel(leaves, gradients, scalars, **options)

    @run.def_vmap
    def _(size, batched, *arguments):
      del size
      axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))

      def members(*arguments):
        return plain("arithmetic")(*arguments, **options)

      out = jax.vmap(members, in_axes=axes)(*arguments)
      return out, jax.tree.map(lambda _: True, out)

    wide = Scalars(*(jnp.asarray(s, jnp.float32) for s in scalars))
    return run(list(leaves), list(gradients), wide)

  return update
