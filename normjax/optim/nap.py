"""Normalize-and-Project: Lyle et al. 2024, arXiv:2407.01800."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import compose, groups, meshes, projection, safe
from normjax.optim import dims as dims_lib
from normjax.optim.adamw import adamw
from normjax.types import Array, PyTree

__all__ = ["nap_adamw", "normalize_and_project"]

# What it asks of a model, see `state.premise`.
PREMISE = (
  "a norm before every nonlinearity (arXiv:2407.01800), which makes matrices"
  " scale-invariant: model.placement='nap' of the decoders, without biases"
)
# See `state.keeps_norms`.
KEEPS_NORMS = True
_METHOD = "normalize_and_project"
_PER = ("matrix", "unit")
_VECTORS = ("none", "normalize", "decay")
_OFFSETS = r"(.*/)?(\w+_)?(bias|beta)"


class NormalizeAndProjectState(NamedTuple):
  """State of `normalize_and_project`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  inner: Any
  norms: PyTree  # Of the first matrices, (n, 1, 1 or outputs), float32.
  # Of gains and offsets: the first joint norm, or the first values.
  vectors: PyTree


def _layers(
  paths: Sequence[str], entries: Mapping[int, Any]
) -> list[list[int]]:
  """The numbers of the gains and offsets of each norm layer."""
  layers: dict[str, list[int]] = {}
  for n, path in enumerate(paths):
    if n not in entries and re.fullmatch(groups.VECTOR_NAMES, path):
      layers.setdefault(path.rpartition("/")[0], []).append(n)
  # A dense layer's bias has no gain beside it.
  return [
    members
    for members in layers.values()
    if not all(re.fullmatch(_OFFSETS, paths[n]) for n in members)
  ]


def _joint_norm(leaves: Sequence[Array]) -> Array:
  """The l2 norm of several leaves together, shape=(1,)."""
  return safe.norm(jnp.concatenate([jnp.ravel(x) for x in leaves]), (0,))


def _kept_zero(step: Array, projected: Array) -> Array:
  # The roundings of a norm would move what the optimizer leaves alone.
  return jnp.where(jnp.any(step != 0), projected, step)


@validate.options
def normalize_and_project(
  inner: optax.GradientTransformation,
  *,
  dims: dims_lib.DimsSpec = None,
  per: str = "matrix",
  every: int | Array = 1,
  vectors: str = "none",
  vector_decay: float | Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """Any optimizer, each matrix then scaled back to its first norm.

      u = inner(g);  W' = (W + u) ||W_0|| / ||W + u||;  update = W' - W

  The projection of arXiv:2407.01800; its other half is a norm layer before
  every nonlinearity, which makes the function independent of ||W||: without it
  this is another method, which fixes numbers that the model should learn.
  `scale_invariance` measures whether a model has it; the decoders do with
  `placement="nap"`. The learning rate's implicit decay by growing weights is
  then gone: give an explicit schedule. A decay of the projected matrices does
  next to nothing.

  The abstract was read. Second-hand, from a public audit and
  public notes, as there is no official code: that the target is the first
  norm of each hidden matrix, that the output layer is left out and redundant
  biases are removed, that the projection comes after every update, and that
  gains and offsets are normalized together or regularized; how strongly was
  not to be found. `per="unit"` and the decay of `vectors` are ours.

  This must be the last of a chain: it needs the step as it will be applied,
  with its sign and learning rate, and what comes after it moves the weights
  off their norms. `update` needs params. Norms are Frobenius norms in float32,
  for weights from 1e-37 to 1e37; with weights of a shorter dtype the
  projected norm is as exact as they are. Matrices that start at zero stay
  zero. A leaf whose step is zero is left as it is.

  Args:
    inner: any optax transform.
    dims: what is projected: a tree of `MatrixDims` and None, or a function
      from params to one; None for `default_dims`: no embeddings and no heads,
      whose scale the function does depend on.
    per: "matrix" for one norm of each matrix, the paper's; "unit" for one of
      each output.
    every: steps from one projection to the next, >= 1, an integer or a traced
      one. Public notes report the same results for 1000 in one experiment.
    vectors: what happens to the gains and offsets of norm layers, the leaves
      that share a parent with a gain: "none"; "normalize" scales both together
      to their first joint norm, sqrt(size) for gains of 1 and offsets of 0,
      when the matrices are; "decay" pulls them to their first values.
    vector_decay: for "decay", the part of the distance that each step takes
      away, in [0, 1); not times the learning rate, which is inside `inner`.

  Raises:
    UserError: a concrete number out of range, another name, or dims of
      another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> target = jnp.array([[1.0, -1.0], [1.0, 1.0]])
    >>> objective = lambda p: jnp.sum((p["kernel"] - target) ** 2)
    >>> tx = optim.normalize_and_project(optax.sgd(0.1))
    >>> params = {"kernel": jnp.ones((2, 2))}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   norm = jnp.linalg.norm(params["kernel"])
    ...   print(f"{objective(params):.2f} {norm:.3f}")
    2.76 2.000
    1.86 2.000
    1.23 2.000
  """
  validate.choice(_METHOD, "per", per, _PER)
  validate.choice(_METHOD, "vectors", vectors, _VECTORS)
  validate.traced_count(_METHOD, "every", every)
  validate.betas(_METHOD, vector_decay=vector_decay)
  inner = optax.with_extra_args_support(inner)
  axes = (1, 2) if per == "matrix" else (1,)

  def layers_of(params, entries):
    if vectors == "none":
      return []
    return _layers([path for path, _ in groups.leaves(params)], entries)

  def init(params):
    groups.check_leaves(_METHOD, params)
    entries = projection.chosen(dims, params)
    flat = jax.tree.leaves(params)
    firsts = {}
    for members in layers_of(params, entries):
      wide = [safe.promote(flat[n]) for n in members]
      norm = meshes.automatic(_joint_norm, (wide,))
      for n, w in zip(members, wide, strict=True):
        # A copy: the caller may donate the parameters.
        firsts[n] = norm if vectors == "normalize" else jnp.array(w)

    def first_norms(leaves):
      matrices = projection.to_matrices(leaves, entries)
      return [safe.norm(x, axes) for x in matrices]

    norms = meshes.automatic(first_norms, ([flat[n] for n in entries],))
    state = NormalizeAndProjectState(
      count=jnp.zeros((), jnp.int32),
      inner=inner.init(params),
      norms=projection.tree_of(norms, params, entries),
      vectors=projection.tree_of(firsts.values(), params, firsts),
    )
    return meshes.place(state, params)

  def project(steps, starts, norms, firsts, entries, layers):
    """The steps, those of what is projected replaced; flat lists."""
    steps = list(steps)
    pairs = [[flat[n] for n in entries] for flat in (steps, starts)]
    u, w = (projection.to_matrices(leaves, entries) for leaves in pairs)
    rows = zip(u, w, norms, strict=True)
    moved = [
      _kept_zero(u, norm * safe.normalize(w + u, axes, 0.0) - w)
      for u, w, norm in rows
    ]
    back = projection.from_matrices(moved, pairs[0], entries)
    for n, leaf in zip(entries, back, strict=True):
      steps[n] = leaf
    if vectors == "normalize":
      for members in layers:
        ends = [starts[n] + steps[n] for n in members]
        factor = safe.divide(firsts[members[0]], _joint_norm(ends))[0]
        for n, end in zip(members, ends, strict=True):
          steps[n] = _kept_zero(steps[n], factor * end - starts[n])
    return steps

  def update(updates, state, params=None, **extra_args):
    compose.need_params(_METHOD, params)
    entries = projection.chosen(dims, params)
    layers = layers_of(params, entries)
    updates, moved = inner.update(updates, state.inner, params, **extra_args)
    count: Any = optax.safe_increment(state.count)
    flat, structure = jax.tree.flatten(updates)
    steps = [safe.promote(u) for u in flat]
    starts = [safe.promote(w) for w in jax.tree.leaves(params)]
    numbers = sorted(n for members in layers for n in members)
    firsts = dict(zip(numbers, jax.tree.leaves(state.vectors), strict=True))
    if vectors == "decay":
      for n, first in firsts.items():
        steps[n] = steps[n] - vector_decay * (starts[n] + steps[n] - first)

    def project_due(count, every, steps, starts, norms, firsts):
      return lax.cond(
        count % every == 0,
        lambda steps: project(steps, starts, norms, firsts, entries, layers),
        lambda steps: steps,
        steps,
      )

    norms = jax.tree.leaves(state.norms)
    steps = meshes.automatic(
      project_due, (count, every, steps, starts, norms, firsts), like=steps
    )
    steps = [x.astype(u.dtype) for x, u in zip(steps, flat, strict=True)]
    return structure.unflatten(steps), NormalizeAndProjectState(
      count=count, inner=moved, norms=state.norms, vectors=state.vectors
    )

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def nap_adamw(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  weight_decay: float | Array = 0.0,
  dims: dims_lib.DimsSpec = None,
  per: str = "matrix",
  every: int | Array = 1,
  vectors: str = "none",
  vector_decay: float | Array = 0.0,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """AdamW whose hidden matrices keep their first norms.

      w -= lr (adam(g) + wd w);  W *= ||W_0|| / ||W||    for hidden matrices

  `adamw` in `normalize_and_project`, arXiv:2407.01800, whose experiments take
  Adam; there it is said what is second-hand. It asks for a model whose matrices
  have a norm behind them, before every nonlinearity: `placement="nap"` of the
  decoders, not their default. A run says where that does not hold. The
  decay is left to embeddings and heads: a projected matrix's only changes the
  balance of its step.

  Args:
    learning_rate: number, traced scalar or schedule; the paper's point is
      that it should be a schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, >= 0.
    weight_decay: rate of the decay of matrices and embeddings, >= 0, times lr.
    dims: what is projected; see `normalize_and_project`.
    per: "matrix" or "unit".
    every: steps from one projection to the next.
    vectors: "none", "normalize" or "decay".
    vector_decay: for "decay".
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.

  Raises:
    UserError: a concrete number out of range, another name, or dims of
      another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> target = jnp.array([[1.0, -1.0], [1.0, 1.0]])
    >>> objective = lambda p: jnp.sum((p["kernel"] - target) ** 2)
    >>> tx = optim.nap_adamw(0.1)
    >>> params = {"kernel": jnp.array([[0.9, 1.0], [0.9, 0.9]])}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   norm = jnp.linalg.norm(params["kernel"])
    ...   print(f"{objective(params):.2f} {norm:.3f}")
    3.44 1.852
    2.94 1.852
    2.51 1.852
  """
  return normalize_and_project(
    adamw(
      learning_rate,
      b1,
      b2,
      eps,
      weight_decay=weight_decay,
      mu_dtype=mu_dtype,
      nu_dtype=nu_dtype,
    ),
    dims=dims,
    per=per,
    every=every,
    vectors=vectors,
    vector_decay=vector_decay,
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  entries = projection.chosen(options.get("dims"), params)
  paths = [path for path, _ in groups.leaves(params)]
  return {
    path: f"adamw, projected{dims_lib.read(entries[n])}"
    if n in entries
    else "adamw"
    for n, path in enumerate(paths)
  }
