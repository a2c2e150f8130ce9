"""SOAP: Vyas et al. 2024, arXiv:2409.11321."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import (
  compose,
  eigenbasis,
  groups,
  meshes,
  projection,
  routed,
  safe,
  stacking,
  transformers_adam,
)
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree

__all__ = ["scale_by_soap", "soap"]


class SoapState(NamedTuple):
  """State of `scale_by_soap`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # In the eigenbases: the parameters' shapes, in mu_dtype.
  nu: PyTree  # The same of the squares, in nu_dtype.
  # (n, k, k) of each side k up to max_precond_dim, float32 at least.
  input_gram: PyTree  # Moving average of G G^T, kernels being (in, out).
  output_gram: PyTree  # Moving average of G^T G.
  input_basis: PyTree  # Columns are the eigenvectors, largest value first.
  output_basis: PyTree


@validate.options
@meshes.on_any_mesh
def scale_by_soap(
  b1: float | Array = 0.95,
  b2: float | Array = 0.95,
  eps: float | Array = 1e-8,
  *,
  precondition_frequency: int | Array = 10,
  max_precond_dim: int | None = None,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """SOAP's direction of every matrix; other leaves pass unchanged.

  The first direction is 0. Arguments as in `soap`.
  """
  method = "scale_by_soap"
  validate.betas(method, b1=b1, b2=b2)
  validate.scalars(method, eps=eps)
  validate.traced_count(
    method, "precondition_frequency", precondition_frequency
  )
  longest = validate.count(
    method, "max_precond_dim", max_precond_dim, least=0, default=10000
  )

  def side_sizes(shape, entry):
    return [
      side if side <= longest else 0
      for side in dims_lib.sizes(tuple(shape), entry)
    ]

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    flat = jax.tree.leaves(params)

    def tree(make):
      values = [make(flat[n], entry) for n, entry in entries.items()]
      return projection.tree_of(values, params, entries)

    def square(w, entry, side, *, is_basis):
      size = side_sizes(w.shape, entry)[side]
      if not size:
        return optax.MaskedNode()
      batch = projection.basis_shape(w.shape, entry)[0]
      dtype = safe.compute_dtype(w.dtype)
      spec = eigenbasis.square_spec(w, size)
      zeros = meshes.zeros(w, (batch, size, size), dtype, spec)
      return zeros + jnp.eye(size, dtype=dtype)[None] if is_basis else zeros

    return SoapState(
      count=jnp.zeros((), jnp.int32),
      mu=tree(lambda w, _: meshes.zeros(w, dtype=mu_dtype)),
      nu=tree(lambda w, _: compose.second_moments(w, nu_dtype)),
      input_gram=tree(lambda w, e: square(w, e, 0, is_basis=False)),
      output_gram=tree(lambda w, e: square(w, e, 1, is_basis=False)),
      input_basis=tree(lambda w, e: square(w, e, 0, is_basis=True)),
      output_basis=tree(lambda w, e: square(w, e, 1, is_basis=True)),
    )

  def direction(count, gradients, mu, nu, grams, bases):
    """The direction, and all but the count as it is after this step."""
    seen = jnp.maximum(count, 1)

    def step(g, m, v, input_gram, output_gram, input_basis, output_basis):
      rotated = eigenbasis.rotate(g, input_basis, output_basis)
      m = b1 * m + (1 - b1) * rotated
      v = b2 * v + (1 - b2) * rotated**2
      second = jnp.sqrt(safe.bias_correction(b2, seen, v.dtype))
      correction = second / safe.bias_correction(b1, seen, m.dtype)
      adam = safe.divide(m, jnp.sqrt(v) + eps) * correction
      old = input_gram, output_gram
      averages = [
        b2 * average + (1 - b2) * gram
        for average, gram in zip(
          old, eigenbasis.outer_products(g, old), strict=True
        )
      ]
      return (
        eigenbasis.rotate_back(adam, input_basis, output_basis),
        m,
        v,
        averages,
      )

    sides = grams[::2], grams[1::2], bases[::2], bases[1::2]
    stepped = stacking.stacked(step, gradients, mu, nu, *sides, whole=True)
    moved = [jnp.where(count == 0, 0, row[0]) for row in stepped]
    grams = [gram for row in stepped for gram in row[3]]
    mu, nu, bases = lax.switch(
      jnp.where(
        count == 0, 1, jnp.where(count % precondition_frequency == 0, 2, 0)
      ),
      (eigenbasis.keep, eigenbasis.begin, eigenbasis.refresh),
      gradients,
      [row[1] for row in stepped],
      [row[2] for row in stepped],
      grams,
      bases,
    )
    return moved, mu, nu, grams, bases

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    entries = projection.chosen(dims, updates)
    count = optax.safe_increment(state.count)
    if not entries:
      return updates, state._replace(count=count)
    flat = jax.tree.leaves(updates)
    likes = (
      [flat[n] for n in entries],
      jax.tree.leaves(state.mu),
      jax.tree.leaves(state.nu),
    )
    g, m, v = (projection.to_matrices(leaves, entries) for leaves in likes)
    g = [safe.bounded(x, (1, 2)) for x in g]
    m, v = (projection.alongside(x, g) for x in (m, v))
    sizes = [side_sizes(flat[n].shape, e) for n, e in entries.items()]

    def sides(inputs, outputs):
      """[input, output, input, …], of size 0 where there is none."""
      held = iter(jax.tree.leaves(inputs)), iter(jax.tree.leaves(outputs))
      return [
        meshes.varying(next(held[side]), x)
        if size
        else jnp.zeros_like(x, shape=(len(x), 0, 0))
        for x, pair in zip(g, sizes, strict=True)
        for side, size in enumerate(pair)
      ]

    moved, m, v, grams, bases = direction(
      state.count,
      g,
      m,
      v,
      sides(state.input_gram, state.output_gram),
      sides(state.input_basis, state.output_basis),
    )
    moved, m, v = (
      projection.from_matrices(matrices, like, entries)
      for matrices, like in zip((moved, m, v), likes, strict=True)
    )

    def tree(leaves):
      nodes = [
        eigenbasis.whole(leaf) if leaf.size else optax.MaskedNode()
        for leaf in leaves
      ]
      return projection.tree_of(nodes, updates, entries)

    new = SoapState(
      count,
      projection.tree_of(m, updates, entries),
      projection.tree_of(v, updates, entries),
      tree(grams[::2]),
      tree(grams[1::2]),
      tree(bases[::2]),
      tree(bases[1::2]),
    )
    return projection.replace(updates, moved, entries), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def soap(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.95,
  b2: float | Array = 0.95,
  eps: float | Array = 1e-8,
  *,
  precondition_frequency: int | Array = 10,
  max_precond_dim: int | None = None,
  weight_decay: float | Array = 0.01,
  mask: Any = "default",
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
  fallback: optax.GradientTransformation | None = None,
  fallback_learning_rate: optax.ScalarOrSchedule | None = None,
  fallback_b1: float | Array | None = None,
  fallback_b2: float | Array | None = None,
  fallback_eps: float | Array | None = None,
  fallback_weight_decay: float | Array | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Adam in the slowly turning eigenbases of Shampoo's two matrices.

      r = U^T g V;  m = b1 m + (1 - b1) r;  v = b2 v + (1 - b2) r^2
      d = U (m / (sqrt(v) + eps)) V^T sqrt(1 - b2^t) / (1 - b1^t)
      w -= lr d;  w -= lr wd w
      L = b2 L + (1 - b2) g g^T;  R = b2 R + (1 - b2) g^T g
      U, V = QR(L U), QR(R V)                 every precondition_frequency

  arXiv:2409.11321, algorithm 3, in the order of the official code: a step
  uses bases that have not seen its gradient. So the first update leaves the
  matrices where they are and takes the eigenvectors of its gradient; t counts
  from the second. When the bases turn, m is carried to the new ones and v
  only reordered, by the estimated eigenvalues. A side longer than
  `max_precond_dim` is not rotated.

  What differs from the official code: embeddings and heads are not matrices
  unless `dims` says so; a convolution is one matrix, (kh kw in, out), not one
  basis for every axis; the leaves without dims take Adam from the first
  update on. Statistics are in float32, L, R, U, V in any case, and those four
  whole on every device unless matrices are shared out. A zero gradient moves
  nothing; one with entries beyond 3e15 is scaled down to that; a NaN spoils its
  matrix until the state is made anew. Adam divides every direction by its own
  size: as in the official code, one that no gradient has had yet then gets a
  step out of rounding errors.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, and of L and R, in [0, 1).
    eps: added to sqrt(v), before the bias correction, >= 0.
    precondition_frequency: steps from one turn of the bases to the next; the
      sides of one size share a call. May be traced.
    max_precond_dim: the longest side that is rotated; 0 leaves Adam. None
      stands for 10000, the official code's.
    weight_decay: rate of the decay, >= 0, times lr; it acts on the weight
      that the step has moved.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for Adam, as follows.
    fallback_learning_rate: of Adam; None takes `learning_rate`.
    fallback_b1: of Adam; None takes `b1`.
    fallback_b2: of Adam; None takes `b2`.
    fallback_eps: of Adam; None takes `eps`.
    fallback_weight_decay: of Adam; None takes `weight_decay`.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.soap(0.1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.62
    6.80
    6.02
  """
  validate.learning_rate("soap", learning_rate)

  def rate(count):
    """Also the decay waits for the bases."""
    value: Any = learning_rate
    if callable(learning_rate):
      value = learning_rate(count)
    return jnp.where(count == 0, 0, value)

  return transformers_adam.optimizer(
    "soap",
    functools.partial(
      scale_by_soap,
      b1,
      b2,
      eps,
      precondition_frequency=precondition_frequency,
      max_precond_dim=max_precond_dim,
      mu_dtype=mu_dtype,
      nu_dtype=nu_dtype,
    ),
    rate,
    b1,
    b2,
    eps,
    weight_decay=weight_decay,
    mask=mask,
    dims=dims,
    fallback=routed.Fallback(
      fallback,
      learning_rate
      if fallback_learning_rate is None
      else fallback_learning_rate,
      fallback_b1,
      fallback_b2,
      fallback_eps,
      fallback_weight_decay,
      mu_dtype,
      nu_dtype,
    ),
  )
