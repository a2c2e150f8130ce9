"""Trees of leaves, as an op has them, for what updates lists of them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas.codes import Quantized
from kernels_pallas.step_8bit import rule as rule_lib
from kernels_pallas.step_8bit.rule import Blocks, Leaf, Rule

# (rule, leaves, gradients, scalars, decayed=, blocks=) -> leaves, and the sum
# of the steps' squares.
Update = Callable[..., tuple[list[Leaf], Array]]
# Parameters, codes and absmax of each moment, the sum of the steps' squares.
Results = tuple[Any, ...]

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


def trees(
  moved: Sequence[Sequence[Any]], structure: Any, rule: Rule
) -> Results:
  """Parameters, codes and absmax, of those of each leaf."""
  columns = range(1 + 2 * len(rule.signed))
  return tuple(structure.unflatten(row[n] for row in moved) for n in columns)


def of_trees(
  update: Update,
  rule: Rule,
  parameters: Any,
  gradients: Any,
  *rest: Any,
  decayed: Any = True,
  blocks: Blocks = _BLOCKS,
) -> Results:
  """The op's results by an `update`; arguments as the op's."""
  *columns, scalars = rest
  given, structure = rows(parameters, gradients, *columns)
  moved, squares = update(
    rule,
    [
      Leaf(w, tuple(itertools.starmap(Quantized, itertools.batched(m, 2))))
      for w, _, *m in given
    ],
    [row[1] for row in given],
    rule.scalars(*scalars),
    decayed=flags(decayed, structure),
    blocks=blocks,
  )
  each = [(leaf.parameter, *itertools.chain(*leaf.moments)) for leaf in moved]
  return *trees(each, structure, rule), squares


def plain(form: str) -> Update:
  """The reference, leaf by leaf, by a form of the codes."""

  def update(rule, leaves, gradients, scalars, *, decayed, blocks):
    moved, squares = zip(
      *(
        rule_lib.update_leaf(
          rule, leaf, g, scalars, decayed=decay, blocks=blocks, form=form
        )
        for leaf, g, decay in zip(leaves, gradients, decayed, strict=True)
      ),
      strict=True,
    )
    return list(moved), sum(squares, jnp.zeros(()))

  return update


def by_kernel(kernel: Update) -> Update:
  """The kernel; under `vmap` plain operations take its place."""

  def update(
    rule: Rule,
    leaves: Sequence[Leaf],
    gradients: Sequence[Array],
    scalars: Any,
    *,
    decayed: Sequence[bool],
    blocks: Blocks,
  ) -> tuple[list[Leaf], Array]:
    options = {"decayed": decayed, "blocks": blocks}

    @jax.custom_batching.custom_vmap
    def run(leaves, gradients, scalars):
      return kernel(rule, leaves, gradients, scalars, **options)

    @run.def_vmap
    def _(size, batched, *arguments):
      del size
      axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))

      def members(*arguments):
        return plain("arithmetic")(rule, *arguments, **options)

      out = jax.vmap(members, in_axes=axes)(*arguments)
      return out, jax.tree.map(lambda _: True, out)

    wide = rule.scalars(*(jnp.asarray(s, jnp.float32) for s in scalars))
    return run(list(leaves), list(gradients), wide)

  return update
