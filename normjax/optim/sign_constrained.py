"""Weights that keep their sign: a projection after any optimizer."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from normjax import validate
from normjax.optim import compose, groups, masks, meshes
from normjax.types import PyTree

__all__ = ["non_negative_mask", "sign_constrained"]

# The weights and gains of `nn.excitatory_inhibitory`; its biases are free.
NON_NEGATIVE_NAMES = r"(.*/)?(kernel_(ee|ie|ei)|gain_[ie])"
_RULES = ((NON_NEGATIVE_NAMES, True), (".*", False))


def non_negative_mask(params: PyTree) -> PyTree:
  """True for the weights and gains of excitatory and inhibitory cells.

  Those are the leaves called kernel_ee, kernel_ie, kernel_ei, gain_i, gain_e.
  """
  flags = groups.match_tree(_RULES, params).values()
  return jax.tree.structure(params).unflatten(flags)


@validate.options
def sign_constrained(
  inner: optax.GradientTransformation, non_negative: Any = "default"
) -> optax.GradientTransformationExtraArgs:
  """`inner`, whose chosen leaves stay at 0 or above.

      u = inner(g);  w += u;  w = max(w, 0)   where chosen

  The projection of Dale's law in networks of excitatory and inhibitory cells,
  after every step, as in the code vwOvOwv/DeepEISNN. It is a part of the
  update, to go last: what comes after it may leave the set. An entry that is
  projected becomes 0 exactly. `inner` does not know of it: its momentum goes
  on as if the step had been taken whole.

  Args:
    inner: gives updates, learning rate included.
    non_negative: which leaves: "default" (those of `non_negative_mask`), None
      (all), a tree of booleans or a function from params to one, as
      `optim.by_path` makes it from rules.

  Raises:
    UserError: at `init`, a mask of another structure.
    TypeError: an entry of it that is not a boolean.
  """
  inner = optax.with_extra_args_support(inner)

  def flags(params):
    return masks.resolve_mask(
      non_negative,
      params,
      name="non_negative",
      named={"default": non_negative_mask},
    )

  def init(params):
    flags(params)
    return meshes.place(inner.init(params), params)

  def update(updates, state, params=None, **extra_args):
    compose.need_params("sign_constrained", params)
    updates, state = inner.update(updates, state, params, **extra_args)
    flat, structure = jax.tree.flatten(updates)
    projected = [
      # Not max(w + u, 0) - w, which may round below 0.
      jnp.where(w + u < 0, -w, u).astype(u.dtype) if chosen else u
      for u, w, chosen in zip(
        flat, jax.tree.leaves(params), flags(params), strict=True
      )
    ]
    return structure.unflatten(projected), state

  return optax.GradientTransformationExtraArgs(init, update)
