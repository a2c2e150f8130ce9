"""nGPT's weights, unit vectors after every step: arXiv:2410.01131."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, groups, meshes, projection, safe
from normjax.optim import dims as dims_lib
from normjax.optim.adamw import adamw
from normjax.types import Array, PyTree

__all__ = ["ngpt_adam", "normalized_weights"]

# See `state.keeps_norms`.
KEEPS_NORMS = True
_METHOD = "normalized_weights"


def _entries(
  dims: dims_lib.DimsSpec, params: PyTree
) -> dict[int, dims_lib.MatrixDims]:
  """The number of each leaf that is made of unit vectors, and its axes."""
  found = enumerate(dims_lib.resolve(dims, params, dims_lib.channel_dims))
  return {n: entry for n, entry in found if entry is not None}


def _axes(
  writers: str, params: PyTree, entries: Mapping[int, Any]
) -> list[tuple[int]]:
  """The axis of the vectors, of each matrix as (n, inputs, outputs)."""
  paths = [path for path, _ in groups.leaves(params)]
  return [(2,) if re.fullmatch(writers, paths[n]) else (1,) for n in entries]


@validate.options
def normalized_weights(
  inner: optax.GradientTransformation,
  *,
  dims: dims_lib.DimsSpec = None,
  writers: str = groups.WRITER_NAMES,
) -> optax.GradientTransformationExtraArgs:
  """Any optimizer, each matrix then made of unit vectors of the stream.

      u = inner(g);  V = W + u;  W' = V / ||V||;  update = W' - W

  The weight normalization of nGPT, arXiv:2410.01131, section 2.6, step 2, read
  in its official code (NVIDIA/ngpt, train.py, `normalize_matrices`). ||.|| is
  of the vectors along the features of the stream: of a matrix that reads it
  (queries, keys, values, gates, the head) those of its inputs, one for each
  output; of one that writes to it those of its outputs, one for each input; of
  an embedding its rows. It is in float32, without an epsilon; a vector of
  zeros stays so. Gains and biases are left to `inner`.

  The official code normalizes once before the first step, too; here all but
  the first gradient is that of unit vectors, and with the model's
  `init="placement"` and placement "normalized_stream" the first one is as well,
  embeddings and head apart. A leaf whose step is zero is left as it is.

  This must be the last of a chain: it needs the step as it will be applied,
  with its sign and learning rate. `update` needs params.

  Args:
    inner: any optax transform; a weight decay in it does next to nothing.
    dims: what is normalized: a tree of `MatrixDims` and None, or a function
      from params to one; None for `channel_dims`, embeddings and heads too.
    writers: pattern of the paths of matrices that write to the stream.

  Raises:
    UserError: writers that are no pattern, or dims of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> target = jnp.array([[1.0, -1.0], [1.0, 1.0]])
    >>> objective = lambda p: jnp.sum((p["kernel"] - target) ** 2)
    >>> tx = optim.normalized_weights(optax.sgd(0.1))
    >>> params = {"kernel": jnp.ones((2, 2))}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   lengths = jnp.linalg.norm(params["kernel"], axis=0)
    ...   print(f"{objective(params):.2f} {lengths[0]:.3f} {lengths[1]:.3f}")
    2.49 1.000 1.000
    1.69 1.000 1.000
    1.14 1.000 1.000
  """
  validate.pattern(_METHOD, "writers", writers)
  inner = optax.with_extra_args_support(inner)

  def init(params):
    groups.check_leaves(_METHOD, params)
    _entries(dims, params)
    return meshes.place(inner.init(params), params)

  def update(updates, state, params=None, **extra_args):
    compose.need_params(_METHOD, params)
    entries = _entries(dims, params)
    axes = _axes(writers, params, entries)
    updates, state = inner.update(updates, state, params, **extra_args)
    flat, structure = jax.tree.flatten(updates)
    weights = jax.tree.leaves(params)
    steps = [flat[n] for n in entries]
    starts = [weights[n] for n in entries]

    def project(steps, starts):
      matrices = (
        projection.to_matrices(leaves, entries) for leaves in (steps, starts)
      )
      moved = [
        jnp.where(jnp.any(u != 0), safe.normalize(w + u, along, 0.0) - w, u)
        for u, w, along in zip(*matrices, axes, strict=True)
      ]
      return projection.from_matrices(moved, steps, entries)

    moved = meshes.automatic(project, (steps, starts), like=steps)
    for n, leaf in zip(entries, moved, strict=True):
      flat[n] = leaf
    return structure.unflatten(flat), state

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def ngpt_adam(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.95,
  eps: float | Array = 1e-8,
  *,
  weight_decay: float | Array = 0.0,
  dims: dims_lib.DimsSpec = None,
  writers: str = groups.WRITER_NAMES,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Adam whose matrices are made of unit vectors, as nGPT trains.

      w -= lr adam(g);  W = W / ||W|| along the features of the stream

  `adamw` in `normalized_weights`, arXiv:2410.01131. The paper has no decay, and
  no warm-up either, which is the schedule's matter.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, >= 0.
    weight_decay: rate of the decay, >= 0, times lr; of a normalized matrix it
      only changes the balance of its step.
    dims: what is normalized; see `normalized_weights`.
    writers: pattern of the paths of matrices that write to the stream.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.

  Raises:
    UserError: a concrete number out of range, writers that are no pattern, or
      dims of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> target = jnp.array([[1.0, -1.0], [1.0, 1.0]])
    >>> objective = lambda p: jnp.sum((p["kernel"] - target) ** 2)
    >>> tx = optim.ngpt_adam(0.1)
    >>> params = {"kernel": jnp.ones((2, 2))}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   lengths = jnp.linalg.norm(params["kernel"], axis=0)
    ...   print(f"{objective(params):.2f} {lengths[0]:.3f} {lengths[1]:.3f}")
    3.02 1.000 1.000
    2.68 1.000 1.000
    2.33 1.000 1.000
  """
  return normalized_weights(
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
    writers=writers,
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  entries = _entries(options.get("dims"), params)
  axes = _axes(options.get("writers", groups.WRITER_NAMES), params, entries)
  sides = {(1,): "inputs", (2,): "outputs"}
  said = {
    n: f"adam, unit {sides[along]}{dims_lib.read(entries[n])}"
    for n, along in zip(entries, axes, strict=True)
  }
  paths = [path for path, _ in groups.leaves(params)]
  return {path: said.get(n, "adam") for n, path in enumerate(paths)}
