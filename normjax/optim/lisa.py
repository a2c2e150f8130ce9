"""LISA: Pan et al. 2024, arXiv:2403.17919."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import block_descent, compose, groups, masks, meshes, safe
from normjax.optim import blocks as blocks_lib
from normjax.optim.adamw import scale_by_adam
from normjax.types import Array, PyTree

__all__ = ["lisa"]

_ENDS, _LAYERS = "ends", "layers"


class LisaState(NamedTuple):
  """State of the layers, where moments are kept."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  # In which a leaf moved, shape=() each, int32; of stacked layers (depth,).
  steps: PyTree
  mu: PyTree  # Like the parameters, in mu_dtype.
  nu: PyTree  # The same of g^2, in nu_dtype.


def _kept(
  b1: float | Array,
  b2: float | Array,
  eps: float | Array,
  weight_decay: float | Array,
  flags: Sequence[bool],
  mu_dtype: DTypeLike | None,
  nu_dtype: DTypeLike | None,
  *,
  blocks: Sequence[str],
  stacked: Sequence[str],
  num_active: int,
  switch_every: int | Array,
  seed: int | Array,
) -> optax.GradientTransformationExtraArgs:
  """AdamW of the active layers; the others' moments and steps stay."""

  def init(params):
    found = blocks_lib.blocks_of(
      "lisa", params, blocks, "never", stacked=stacked
    )
    flat, structure = jax.tree.flatten(params)
    steps = structure.unflatten(
      meshes.zeros(w, shape=(depth,) if depth else (), dtype=jnp.int32)
      for w, depth in zip(flat, found.depths, strict=True)
    )
    return LisaState(
      jnp.zeros((), jnp.int32),
      steps,
      compose.zeros(params, mu_dtype),
      compose.second_moments(params, nu_dtype),
    )

  def update(updates, state, params=None, **extra_args):
    del extra_args
    compose.need_params("lisa", params)
    flat, structure = jax.tree.flatten(updates)
    if not flat:
      return updates, state
    found = blocks_lib.blocks_of(
      "lisa", updates, blocks, "never", stacked=stacked
    )
    active = blocks_lib.chosen(
      found,
      order="independent",
      turn=jnp.asarray(state.count // switch_every, jnp.int32),
      num_active=num_active,
      seed=seed,
    )

    def one(g, w, t, m, v, n, decays):
      moves = jnp.isin(found.numbers(n), jnp.stack(active))
      t = jnp.where(moves, optax.safe_increment(t), t)
      # Of stacked layers each has a flag and a count.
      beside = (...,) + (None,) * (g.ndim - moves.ndim)
      on, age = moves[beside], jnp.maximum(t, 1)[beside]
      g = safe.clip_for_square(safe.promote(g))
      new_m = b1 * safe.promote(m) + (1 - b1) * g
      new_v = b2 * safe.promote(v) + (1 - b2) * jnp.square(g)
      u = new_m / (1 - b1**age) / (jnp.sqrt(new_v / (1 - b2**age)) + eps)
      if decays:
        u += weight_decay * w.astype(u.dtype)
      m = jnp.where(on, new_m.astype(m.dtype), m)
      v = jnp.where(on, new_v.astype(v.dtype), v)
      return jnp.where(on, u, 0).astype(g.dtype), t, m, v

    rows = [
      one(*row)
      for row in zip(
        flat,
        *map(structure.flatten_up_to, (params, *state[1:])),
        range(len(flat)),
        flags,
        strict=True,
      )
    ]
    moved, *fields = map(structure.unflatten, zip(*rows, strict=True))
    return moved, LisaState(optax.safe_increment(state.count), *fields)

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def lisa(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  num_active: int | None = None,
  switch_every: int | Array = 20,
  reset_state: bool = False,
  blocks: Sequence[str] = (),
  stacked: Sequence[str] = (),
  seed: int | Array = 0,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """AdamW on some layers at a time, and always on the two ends.

      every K steps:  num_active layers, uniformly and without replacement
      w -= lr (AdamW's direction + wd w)    in them and outside of all layers

  arXiv:2403.17919, algorithm 1, after OptimalScale/LMFlow (Apache-2.0),
  lisa_trainer.py: what its importance sampling comes to is this uniform choice
  with embedding, head and final norm always trained. As there, a layer keeps
  its moments while others move and has its own count of steps, so that the
  state is that of Adam for all. The authors started the process again at each
  interval to free it (LMFlow issues 729 and 768); `reset_state` drops the
  moments of the layers, not those of the ends.

  State, in bytes per entry: 8; with `reset_state` 8 num_active / D in D layers,
  and 8 elsewhere. Gradients of all layers are still computed.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, >= 0.
    num_active: layers that move at a time; None stands for 2. A tree with
      fewer blocks is refused.
    switch_every: K, steps with the same layers; may be traced.
    reset_state: whether moments of the layers are dropped at every switch.
    blocks: see `block_wise`; each stands for a layer, and there are no ends.
    stacked: see `block_wise`.
    seed: of the choice, >= 0; may be traced.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    weight_decay: rate of the decay, >= 0; of what moves.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, a mask of another structure, or
      blocks that miss a leaf.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return sum(jnp.sum(w**2) for w in jax.tree.leaves(params))
    >>> tx = optim.lisa(0.1, num_active=1, switch_every=1)
    >>> layers = [{"kernel": jnp.ones(1)}, {"kernel": jnp.ones(1)}]
    >>> params = {"embedding": jnp.ones(1), "layers": layers}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print([f"{w[0]:.1f}" for w in jax.tree.leaves(params)])
    ['0.9', '1.0', '0.9']
    ['0.8', '1.0', '0.8']
    ['0.7', '1.0', '0.7']
  """
  validate.learning_rate("lisa", learning_rate)
  validate.scalars("lisa", weight_decay=weight_decay)
  adam = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
  width = 2 if num_active is None else num_active
  shared = {
    "blocks": blocks,
    "stacked": stacked,
    "num_active": width,
    "switch_every": switch_every,
    "seed": seed,
  }
  blocks_lib.check("lisa", others="never", order="independent", **shared)

  def decayed(flags):
    return optax.chain(adam, compose.add_decay("lisa", weight_decay, flags))

  def split(tree):
    flags = masks.resolve_mask(mask, tree)
    structure = jax.tree.structure(tree)
    found = blocks_lib.blocks_of("lisa", tree, blocks, "never", stacked=stacked)
    blocks_lib.check_count("lisa", found, width)
    labels = [_ENDS if n < 0 else _LAYERS for n in found.of_leaf]
    tree_of_flags = structure.unflatten(flags)
    if reset_state:
      layers = block_descent.core(
        "lisa",
        decayed,
        others="never",
        order="independent",
        mask=tree_of_flags,
        **shared,
      )
    else:
      own = [f for f, n in zip(flags, found.of_leaf, strict=True) if n >= 0]
      layers = _kept(
        b1, b2, eps, weight_decay, own, mu_dtype, nu_dtype, **shared
      )
    return optax.partition(
      {_ENDS: decayed(tree_of_flags), _LAYERS: layers},
      lambda _: structure.unflatten(labels),
    )

  def init(params):
    groups.check_leaves("lisa", params)
    return split(params).init(params)

  def update(updates, state, params=None, **extra_args):
    return split(updates).update(updates, state, params, **extra_args)

  direction = optax.GradientTransformationExtraArgs(init, update)
  transform = compose.finish(
    "lisa",
    optax.chain(direction, optax.scale_by_learning_rate(learning_rate)),
    mask,
  )

  def upcoming(params, state):
    found = blocks_lib.blocks_of(
      "lisa", params, blocks, "never", stacked=stacked
    )
    count = state[0].inner_states[_LAYERS].inner_state.count
    active = blocks_lib.chosen(
      found,
      order="independent",
      turn=jnp.asarray(count // switch_every, jnp.int32),
      num_active=width,
      seed=seed,
    )
    return block_descent.Upcoming(found, active, ends_move=True)

  return block_descent.BlockWise(transform, upcoming)


def routes(
  params: PyTree,
  blocks: Sequence[str] = (),
  stacked: Sequence[str] = (),
  **options: Any,
) -> Mapping[str, str]:
  """Path of each leaf to the block that it is in."""
  del options
  found = blocks_lib.routes("lisa", params, blocks, "never", stacked)
  always = "lisa, always"
  return {p: always if u == "never moves" else u for p, u in found.items()}
