"""From a direction to an optimizer: decay, learning rate, dtypes, routing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from normjax import validate
from normjax.optim import dims as dims_lib
from normjax.optim import groups, masks, meshes, safe
from normjax.types import Array, PyTree

FALLBACK = "adamw (fallback)"


def need_params(method: str, params: PyTree | None) -> None:
  """Raises ValueError where an update was called without params."""
  if params is None:
    raise ValueError(f"{method}: update needs params as its third argument.")


def add_decay(
  method: str, weight_decay: float | Array, mask: Any
) -> optax.GradientTransformation:
  """Adds weight_decay * w to u, on the leaves that `mask` picks."""

  def update(updates, state, params=None):
    need_params(method, params)
    flags = masks.resolve_mask(mask, params)
    flat, structure = jax.tree.flatten(updates)
    decayed = [
      u + weight_decay * w.astype(u.dtype) if flag else u
      for u, w, flag in zip(flat, jax.tree.leaves(params), flags, strict=True)
    ]
    return structure.unflatten(decayed), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def descend(
  method: str,
  direction: optax.GradientTransformation,
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float | Array | None = None,
  mask: Any = "default",
) -> optax.GradientTransformation:
  """-learning_rate * (direction + weight_decay * w).

  Args:
    method: the optimizer, for messages.
    direction: a transform without sign and learning rate.
    learning_rate: number, traced scalar or schedule.
    weight_decay: None where the direction holds the decay already.
    mask: see `masks.resolve_mask`.
  """
  validate.learning_rate(method, learning_rate)
  steps = [direction]
  if weight_decay is not None:
    validate.scalars(method, weight_decay=weight_decay)
    steps.append(add_decay(method, weight_decay, mask))
  return optax.chain(*steps, optax.scale_by_learning_rate(learning_rate))


def finish(
  method: str, inner: optax.GradientTransformation, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  """The outermost layer of an alias.

  Checks the leaves and the mask at `init`; gives `inner` gradients in float32
  (float64 stays) and returns updates in the dtype of the parameters.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params):
    groups.check_leaves(method, params)
    masks.resolve_mask(mask, params)
    return meshes.place(inner.init(params), params)

  def update(updates, state, params=None, **extra_args):
    like = updates if params is None else params
    updates, state = inner.update(
      jax.tree.map(safe.promote, updates), state, params, **extra_args
    )
    updates = jax.tree.map(lambda u, w: u.astype(w.dtype), updates, like)
    return updates, state

  return optax.GradientTransformationExtraArgs(init, update)


def per_leaf(
  method: str, direction: Any, dims: dims_lib.DimsSpec
) -> optax.GradientTransformationExtraArgs:
  """A stateless transform of each matrix; other leaves pass unchanged.

  Args:
    method: for messages.
    direction: (list of leaves, list of `MatrixDims`) to list of leaves.
    dims: see `dims.resolve`.
  """

  def init(params):
    groups.check_leaves(method, params)
    dims_lib.resolve(dims, params)
    return optax.EmptyState()

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    return on_matrices(direction, updates, dims), state

  return optax.GradientTransformationExtraArgs(init, update)


def on_matrices(
  direction: Any, updates: PyTree, dims: dims_lib.DimsSpec
) -> PyTree:
  """Replaces the leaves that have dims by their direction."""
  entries = dims_lib.resolve(dims, updates)
  flat, structure = jax.tree.flatten(updates)
  chosen = [n for n, entry in enumerate(entries) if entry is not None]
  moved = direction([flat[n] for n in chosen], [entries[n] for n in chosen])
  for n, leaf in zip(chosen, moved, strict=True):
    flat[n] = leaf.astype(flat[n].dtype)
  return structure.unflatten(flat)


def routes(
  method: str, dims: dims_lib.DimsSpec, params: PyTree
) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return {
    path: FALLBACK if entry is None else method + dims_lib.read(entry)
    for (path, _), entry in zip(
      groups.leaves(params), dims_lib.resolve(dims, params), strict=True
    )
  }


def route(
  method: str,
  transforms: Callable[
    [PyTree, PyTree],
    tuple[optax.GradientTransformation, optax.GradientTransformation],
  ],
  dims: dims_lib.DimsSpec,
  mask: Any,
) -> optax.GradientTransformationExtraArgs:
  """One transform where a leaf has dims, another elsewhere.

  Neither sees the other's leaves, which may say what its own leaves are. So
  dims and mask are resolved here, on the whole tree, and handed down.

  Args:
    method: for messages.
    transforms: from the trees of `MatrixDims` and None, and of the mask, to
      the two transforms.
    dims: see `dims.resolve`.
    mask: see `masks.resolve_mask`.
  """
  # Options are checked when the optimizer is made.
  transforms(None, None)

  def split(tree):
    structure = jax.tree.structure(tree)
    entries = dims_lib.resolve(dims, tree)
    matrices, fallback = transforms(
      structure.unflatten(entries),
      structure.unflatten(masks.resolve_mask(mask, tree)),
    )
    labels = structure.unflatten(
      FALLBACK if entry is None else method for entry in entries
    )
    # A function, since optax would call a tree that is callable.
    return optax.partition(
      {method: matrices, FALLBACK: fallback}, lambda _: labels
    )

  def init(params):
    return split(params).init(params)

  def update(updates, state, params=None, **extra_args):
    return split(updates).update(updates, state, params, **extra_args)

  return optax.GradientTransformationExtraArgs(init, update)


def zeros(params: PyTree, dtype: Any) -> PyTree:
  """Zeros like params, in `dtype` unless it is None."""
  return jax.tree.map(lambda w: meshes.zeros(w, dtype=dtype), params)


def dtype_of_squares(w: Array, asked: Any) -> Any:
  """What averages of squares are stored in, for a parameter.

  `asked`; if it is None, the dtype of the arithmetic, which is float32 for 16
  bits. In float16, (1 - 0.999) g^2 vanishes below |g| = 5e-3, and steps grow;
  bfloat16 cannot lose a thousandth of itself, and no average decays.
  """
  return safe.compute_dtype(w.dtype) if asked is None else asked


def second_moments(params: PyTree, dtype: Any) -> PyTree:
  """Zeros like params, in `dtype_of_squares`."""
  return jax.tree.map(
    lambda w: meshes.zeros(w, dtype=dtype_of_squares(w, dtype)), params
  )


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
  """The leaves of `tree` in the dtypes of `like`."""
  return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def stored(
  method: str,
  inner: optax.GradientTransformation,
  *,
  squares: Sequence[str] = (),
  **dtypes: Any,
) -> optax.GradientTransformationExtraArgs:
  """`inner` with moments stored in dtypes of their own, computed in float32.

  Args:
    method: for messages.
    inner: its state is a NamedTuple.
    squares: the fields that average squares.
    **dtypes: by field of the state, what its moments are stored in; None
      takes the parameter's, for `squares` that of `dtype_of_squares`.
  """

  def cast(name, field):
    def dtype(x):
      if name in squares:
        return dtype_of_squares(x, dtypes[name])
      return dtypes[name] or x.dtype

    return jax.tree.map(lambda x: x.astype(dtype(x)), field)

  def init(params):
    groups.check_leaves(method, params)
    state: Any = inner.init(params)
    return state._replace(
      **{name: cast(name, getattr(state, name)) for name in dtypes}
    )

  def update(updates, state, params=None, **extra_args):
    del extra_args
    wide = {
      name: jax.tree.map(safe.promote, getattr(state, name)) for name in dtypes
    }
    direction, moved = inner.update(
      jax.tree.map(safe.promote, updates),
      state._replace(**wide),
      jax.tree.map(safe.promote, params),
    )
    moved: Any = moved
    narrow = {
      name: cast_like(getattr(moved, name), getattr(state, name))
      for name in dtypes
    }
    return cast_like(direction, updates), moved._replace(**narrow)

  return optax.GradientTransformationExtraArgs(init, update)


def with_finite_squares(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """`inner` of gradients that are cut by `safe.clip_for_square`."""

  def update(updates, state, params=None):
    cut = jax.tree.map(safe.clip_for_square, updates)
    return inner.update(cut, state, params)

  return optax.GradientTransformation(inner.init, update)


def descend_then_decay(
  method: str,
  direction: optax.GradientTransformation,
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float | Array,
  mask: Any,
) -> optax.GradientTransformation:
  """The step w -= lr direction, and then w -= lr weight_decay w.

  Arguments as in `descend`.
  """
  validate.learning_rate(method, learning_rate)
  validate.scalars(method, weight_decay=weight_decay)

  def init(params):
    del params
    return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params=None):
    need_params(method, params)
    rate: Any = learning_rate
    if callable(learning_rate):
      rate = learning_rate(state.count)
    flat, structure = jax.tree.flatten(updates)
    rows = zip(
      [-rate * u for u in flat],
      jax.tree.leaves(params),
      masks.resolve_mask(mask, params),
      strict=True,
    )
    moved = [
      u - rate * weight_decay * (w.astype(u.dtype) + u) if decayed else u
      for u, w, decayed in rows
    ]
    count = optax.safe_increment(state.count)
    return structure.unflatten(moved), optax.ScaleByScheduleState(count=count)

  return optax.chain(direction, optax.GradientTransformation(init, update))


def skip_entries(
  inner: optax.GradientTransformation, moves: Callable[[Array], Array]
) -> optax.GradientTransformationExtraArgs:
  """`inner`, but entries of the weights whose gradient is no good stay.

  Args:
    inner: the transform.
    moves: from a gradient to booleans of its shape: which entries move.
  """
  inner = optax.with_extra_args_support(inner)

  def update(updates, state, params=None, **extra_args):
    moved, state = inner.update(updates, state, params, **extra_args)
    moved = jax.tree.map(lambda u, g: jnp.where(moves(g), u, 0), moved, updates)
    return moved, state

  return optax.GradientTransformationExtraArgs(inner.init, update)
