"""A residual branch with its norms, computed: the formula of `nn.placement`."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from normjax.nn import placement
from normjax.types import Array

Fn = Callable[[Array], Array]


def scaled[Given](x: Given, gain: float | Array) -> Given:
  """Multiplies by a gain in the dtype of x; a static 1 costs nothing.

  Args:
    x: an array, or the `nn.paths.Paths` that an input norm gave.
    gain: a scalar, or of one entry per feature.
  """
  if isinstance(gain, float | int) and gain == 1.0:
    return x
  return jax.tree.map(lambda leaf: leaf * jnp.asarray(gain, leaf.dtype), x)


def taken(
  x: Array,
  branch: Fn,
  norms: Mapping[str, Fn],
  gains: placement.Gains = placement.NO_GAINS,
) -> tuple[Array, Array]:
  """What a branch's input norm gives, and what the branch makes of it.

  Args:
    x: the stream.
    branch: of the same shape.
    norms: by slot: "input", "output".
    gains: the block's constants.

  Returns:
    h without its gain, and y of that formula.
  """
  normalized = norms["input"](x) if "input" in norms else x
  y = branch(scaled(normalized, gains.input))
  return normalized, norms["output"](y) if "output" in norms else y


def residual(
  x: Array,
  branch: Fn,
  norms: Mapping[str, Fn],
  *,
  structure: placement.Branch = placement.ADDED,
  gains: placement.Gains = placement.NO_GAINS,
  branch_gain: float | Array = 1.0,
  drop: Fn | None = None,
) -> Array:
  """One residual branch with its norms.

  Args:
    x: the stream, (b, t, d).
    branch: of the same shape.
    norms: by slot: "input", "output", "stream".
    structure: what the branch is added to and how.
    gains: the block's constants.
    branch_gain: multiplies what is added; with `interpolate` it is |a|.
    drop: of y, in training: drop path, which a norm after it would undo.

  Returns:
    The stream after the branch.
  """
  normalized, y = taken(x, branch, norms, gains)
  base = normalized if structure.residual == "input" else x
  if structure.interpolate:
    y = y - base
  if drop is not None:
    y = drop(y)
  x = scaled(base, gains.stream) + scaled(y, branch_gain)
  return norms["stream"](x) if "stream" in norms else x
