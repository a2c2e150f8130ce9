"""Whether a function of the weights depends on their scale: by doubling them.

What keeps matrices at one norm, as `normalize_and_project` does, has this for a
premise: where the outputs depend on a matrix's norm, the projection takes from
the model a number that it should learn.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from normjax import errors, rng, validate
from normjax.optim import dims as dims_lib
from normjax.optim import groups, projection, safe
from normjax.types import Array, PyTree

__all__ = ["scale_dependent", "scale_invariance"]

# (factor, whether a random matrix of the same norm is added). Multiplying by
# powers of 2 rounds nothing: where a norm undoes it, what is left is the
# norm's epsilon.
_CHANGES = ((2.0, False), (0.5, False), (1.0, True))
# Of what a random step as long as the matrix does. In LLaMAs of 64 to 512
# dimensions a matrix without a norm behind it does 0.5 to 1.1 of that, and one
# with a norm 1e-3 at most, by the norm's epsilon.
_SHARE = 0.01
# Roundings act like small steps: in bfloat16, whose eps is 0.008, those that an
# epsilon turns over do 0.02 of a random step.
_ROUNDINGS = 8

Function = Callable[[PyTree], PyTree]


class Response(NamedTuple):
  """How far the outputs move, in their standard deviations.

  Attributes:
    scaled: by doubling or halving a matrix, the larger of both.
    random: by a random step that is as long as the matrix.
  """

  scaled: float
  random: float

  def depends(self, dtype: DTypeLike) -> bool:
    """Whether it is the scale that moves them, not epsilons and rounding.

    Args:
      dtype: of the arithmetic that gave them.
    """
    eps = float(jnp.finfo(dtype).eps)
    share = _SHARE + _ROUNDINGS * eps
    return self.scaled > max(share * self.random, eps / 2)


def names(params: PyTree, dims: dims_lib.DimsSpec = None) -> list[str]:
  """The path of every matrix, and its index where a leaf has several."""
  found = []
  named = groups.leaves(params)
  for n, entry in projection.chosen(dims, params).items():
    path, leaf = named[n]
    used = {axis for axes in dims_lib.axes(entry) for axis in axes}
    batch = [size for axis, size in enumerate(leaf.shape) if axis not in used]
    for index in np.ndindex(*batch):
      found.append(path + (f"[{', '.join(map(str, index))}]" if index else ""))
  return found


def num_calls(params: PyTree, dims: dims_lib.DimsSpec = None) -> int:
  """How often `measure` calls the function."""
  return 1 + len(_CHANGES) * len(names(params, dims))


def _numbers(returned: PyTree) -> Array:
  """All floating-point numbers that a function gave, as one vector."""
  leaves = [
    jnp.asarray(leaf)
    for leaf in jax.tree.leaves(returned)
    if isinstance(leaf, float) or hasattr(leaf, "dtype")
  ]
  leaves = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
  if not sum(x.size for x in leaves):
    raise errors.UserError(
      "scale_invariance: loss_fn(params) gave no floating-point number; needed:"
      " a loss, or arrays of outputs."
    )
  return jnp.concatenate([jnp.ravel(safe.promote(x)) for x in leaves])


def _random_steps(matrices: Sequence[Array]) -> list[Array]:
  """For each matrix, (n, inputs, outputs), one of the same Frobenius norm."""
  ends = np.cumsum([0, *(x.size for x in matrices)])
  # A stream of its own: the draw of a plain key may be the matrix itself. One
  # draw for all: each would be a program of its own to compile.
  draw = jax.random.normal(rng.fold(0, "scale_invariance"), (int(ends[-1]),))
  directions = [
    draw[start : start + x.size].reshape(x.shape).astype(x.dtype)
    for x, start in zip(matrices, ends[:-1], strict=True)
  ]
  return [
    safe.norm(x, (1, 2)) * safe.normalize(z, (1, 2), 0.0)
    for x, z in zip(matrices, directions, strict=True)
  ]


def measure(
  loss_fn: Function, params: PyTree, dims: dims_lib.DimsSpec = None
) -> tuple[Array, Array]:
  """The two numbers of each matrix's `Response`, in the order of `names`.

  For use under `jax.jit`: a loop calls the function, which is compiled once.
  """
  entries = projection.chosen(dims, params)
  flat, structure = jax.tree.flatten(params)
  like = [flat[n] for n in entries]
  matrices = projection.to_matrices(like, entries)
  steps = _random_steps(matrices)
  starts = np.cumsum([0, *(len(x) for x in matrices)])

  def numbers(chosen: Array, factor: Array, added: Array) -> Array:
    changed = []
    for x, step, start in zip(matrices, steps, starts[:-1], strict=True):
      is_it = (start + jnp.arange(len(x)) == chosen)[:, None, None]
      moved = factor.astype(x.dtype) * x + added.astype(x.dtype) * step
      changed.append(jnp.where(is_it, moved, x))
    leaves = list(flat)
    back = projection.from_matrices(changed, like, entries)
    for n, leaf in zip(entries, back, strict=True):
      leaves[n] = leaf
    return _numbers(loss_fn(structure.unflatten(leaves)))

  def compare(base, row):
    y = numbers(*row)
    base = jnp.where(row[0] < 0, y, base)  # The first row changes nothing.
    # A loss, and outputs that are all the same, have no deviation: they are
    # compared with their size.
    deviation = jnp.std(base)
    unit = jnp.where(deviation > 0, deviation, jnp.sqrt(jnp.mean(base**2)))
    return base, safe.divide(jnp.sqrt(jnp.mean((y - base) ** 2)), unit)

  rows = [(-1, 1.0, False)]
  rows += [(n, *change) for n in range(starts[-1]) for change in _CHANGES]
  columns = tuple(jnp.asarray(column) for column in zip(*rows, strict=True))
  shape = jax.eval_shape(numbers, *(column[0] for column in columns))
  _, moved = jax.lax.scan(compare, jnp.zeros(shape.shape, shape.dtype), columns)
  doubled, halved, random = moved[1:].reshape(-1, len(_CHANGES)).T
  return jnp.maximum(doubled, halved), random


def responses(
  paths: Sequence[str], measured: tuple[Array, Array]
) -> Mapping[str, Response]:
  """What `measure` found, by what `names` gives."""
  scaled, random = (np.asarray(x, np.float64).tolist() for x in measured)
  rows = zip(paths, scaled, random, strict=True)
  return {path: Response(*row) for path, *row in rows}


def _respond(
  loss_fn: Function, params: PyTree, dims: dims_lib.DimsSpec
) -> Mapping[str, Response]:
  groups.check_leaves("scale_invariance", _matrices_alone(params, dims))
  run = jax.jit(lambda params: measure(loss_fn, params, dims))
  return responses(names(params, dims), run(params))


def _matrices_alone(params: PyTree, dims: dims_lib.DimsSpec) -> Mapping:
  named = groups.leaves(params)
  return dict(named[n] for n in projection.chosen(dims, params))


def scale_invariance(
  loss_fn: Function, params: PyTree, dims: dims_lib.DimsSpec = None
) -> dict[str, float]:
  """How far doubling or halving each matrix moves a loss or a model's outputs.

      max over c in {2, 1/2} of rms(f(c W) - f(W)) / std(f(W))

  The larger of both changes, of the numbers that `loss_fn` gives. Its unit is
  their standard deviation where they differ, as logits do, and the size of the
  number where there is one, |f(c W) - f(W)| / |f(W)|. The outputs tell more
  than a loss, which hardly depends on small logits.

  0 is a function that does not depend on the matrix's scale, as where a norm
  follows. What is left then comes from the norm's epsilon, which is why there
  is no bound for all models; `scale_dependent` compares with what a random
  step does. The weights are taken as they are: a bias of 0 beside a matrix
  disturbs nothing yet. `loss_fn` is compiled once and called 3 n + 1 times for
  n matrices, one after the other.

  Args:
    loss_fn: from parameters to a loss, or to arrays of outputs; traced, and
      the same for the same parameters (keys of dropout are its own).
    params: any tree of arrays.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`, no embeddings and no heads, which
      is what `normalize_and_project` projects. Other axes of a leaf, as of
      stacked layers, hold matrices of their own.

  Returns:
    Path to change, in float32. A leaf of several matrices has an entry for
    each, as "layers/kernel[3]". NaN where a random step of the matrix's length
    moves nothing either, so that there is nothing to be told.

  Raises:
    UserError: `loss_fn` gives no number, or dims of another structure.
    TypeError: a matrix that is not of floating-point numbers.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from normjax import norms, optim
    >>> norm = norms.make("rms_norm")
    >>> scale = norm.init((16,))
    >>> x, first, second = jax.random.normal(jax.random.key(1), (3, 16, 16))
    >>> params = {"first": {"kernel": first}, "second": {"kernel": second}}
    >>> def outputs(params):
    ...   hidden, _ = norm.apply(scale, x @ params["first"]["kernel"])
    ...   return jax.nn.relu(hidden) @ params["second"]["kernel"]
    >>> changes = optim.scale_invariance(outputs, params)
    >>> [f"{path} {change:.2f}" for path, change in changes.items()]
    ['first/kernel 0.00', 'second/kernel 1.00']
  """
  return {
    path: found.scaled if found.random else float("nan")
    for path, found in _respond(loss_fn, params, dims).items()
  }


def scale_dependent(
  loss_fn: Function,
  params: PyTree,
  dims: dims_lib.DimsSpec = None,
  *,
  dtype: DTypeLike = jnp.float32,
) -> dict[str, float]:
  """The entries of `scale_invariance` that are more than epsilon and rounding.

  Those above (0.01 + 8 eps) of what a random step does that is as long as the
  matrix, and above eps / 2, with the eps of `dtype`.

  Args:
    loss_fn: as in `scale_invariance`, like the next two.
    params: see there.
    dims: see there.
    dtype: of the arithmetic in `loss_fn`, which may be shorter than what it
      gives.

  Returns:
    Path to change; empty where all matrices are scale-invariant.

  Raises:
    UserError: as `scale_invariance`.
    TypeError: as there, or a dtype that is not a floating-point one.
  """
  if not jnp.issubdtype(dtype, jnp.floating):
    validate.refuse_type(
      "scale_dependent", "dtype", dtype, "a floating-point dtype"
    )
  return {
    path: found.scaled
    for path, found in _respond(loss_fn, params, dims).items()
    if found.depends(dtype)
  }
