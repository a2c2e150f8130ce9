"""Inputs, truths and bounds that the contracts of norms share.

Tolerances. With u the unit roundoff (2^-24 in float32), a sum of n terms has a
relative error below n u; root, product, gain and offset add a few u. n is here
the whole input, so `(n + 16) u` times the largest output bounds every norm. In
float64 the same bound has u = 2^-53.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

CHANNELS = 16
SHAPES = {2: (12, CHANNELS), 3: (4, 6, CHANNELS), 4: (4, 3, 5, CHANNELS)}

# What integer statistics count from: training is well under way.
COUNT = 5000


@functools.cache
def jitted(norm, train=True):
  """The compiled norm: (variables, x, mask) to (y, stats)."""
  return jax.jit(
    lambda variables, x, mask=None: norm.apply(
      variables, x, train=train, mask=mask
    )
  )


def ranks(norm):
  """The ranks of x that the norm takes."""
  if norm.traits.spatial_only:
    return (4,)
  return (3, 4) if norm.traits.mixes_positions else (2, 3, 4)


def feature_shape(rank):
  """What `init` is told about an x of this rank."""
  return SHAPES[rank][1:] if rank == 4 else SHAPES[rank][-1:]


def is_counter(leaf):
  """Whether a leaf counts; anything else is floating."""
  return leaf.dtype == jnp.int32


def inputs(norm, shape, seed=0):
  """Float64 NumPy variables off their initial values, and a normal x.

  Counters stay int32 and stand at COUNT.
  """
  rng = np.random.default_rng(seed)
  features = shape[1:] if len(shape) == 4 else shape[-1:]

  def moved(leaf):
    if is_counter(leaf):
      return np.asarray(leaf) + np.int32(COUNT)
    # Stays positive, as running variances must.
    return np.float64(leaf) + rng.uniform(0.1, 0.5, leaf.shape)

  variables = jax.tree.map(moved, norm.init(features))
  return variables, rng.normal(size=shape)


def as_float64(norm, variables, x, mask=None, train=True):
  """The compiled norm in float64, as NumPy."""
  with jax.enable_x64(True):
    result = jitted(norm, train)(
      jax.tree.map(jnp.asarray, variables), jnp.asarray(x), mask
    )
    return jax.tree.map(np.asarray, result)


def truth(case, variables, x, mask=None, train=True):
  """What y and the statistics should be, in float64."""
  if case.norm.traits.mixes_positions and x.ndim == 3:
    # References are of images; a sequence is one of one column.
    y, stats = truth(case, variables, x[:, :, None], mask, train)
    return y.reshape(x.shape), stats
  return case.reference(
    variables["params"],
    variables["stats"],
    x,
    train=train,
    mask=mask,
    **case.norm.options,
  )


def assert_close(actual, expected, tolerance):
  """Every leaf within `tolerance` times the largest expected value."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, e in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    if is_counter(a):
      np.testing.assert_array_equal(a, e)
      continue
    e = np.asarray(e, np.float64)
    a = np.asarray(a, np.float64)
    bound = tolerance * max(1.0, np.abs(e).max())
    np.testing.assert_allclose(a, e, rtol=0, atol=bound)


def tolerance(x, dtype=np.float32):
  """The bound of the module's docstring, for statistics in `dtype`."""
  return (x.size + 16) * np.finfo(dtype).eps / 2


def to(dtype, tree):
  """The tree's arrays in another dtype; counters as they are."""
  return jax.tree.map(
    lambda leaf: jnp.asarray(leaf, None if is_counter(leaf) else dtype), tree
  )


def rounded(tree):
  """The tree in float64, as float32 holds it."""
  return jax.tree.map(
    lambda leaf: leaf if is_counter(leaf) else np.float64(np.float32(leaf)),
    tree,
  )


def held_in_float32(variables):
  """Whether all is float32, but for counters among the statistics."""
  return all(
    leaf.dtype == jnp.float32 or (name == "stats" and is_counter(leaf))
    for name, values in variables.items()
    for leaf in values.values()
  )


def gradient(norm, wrap=lambda apply: apply):
  """(variables, x, weight) to the gradients of sum(weight y) and (y, stats).

  The gradients are by the parameters, x and the statistics of the backward
  pass, whose gradients are their new values.
  """

  def loss(params, x, grad_stats, stats, weight):
    variables = {"params": params, "stats": stats, "grad_stats": grad_stats}
    y, stats = wrap(norm.apply)(variables, x)
    return jnp.sum(weight * y), (y, stats)

  def gradients(variables, x, weight):
    return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(
      variables["params"],
      x,
      variables["grad_stats"],
      variables["stats"],
      weight,
    )

  return gradients


def is_a_value(method, make):
  """Made twice from one config, a method is one static argument of jit.

  Layers of a model share a compiled program, and so do runs of a sweep. With
  any option changed it is another.
  """
  again = make()
  assert again is not method
  assert again == method
  assert hash(again) == hash(method)
  for option in method.options:
    changed = {**method.options, option: "another"}
    assert dataclasses.replace(method, options=changed) != method


def central_differences(loss, arguments, step=1e-5):
  """The gradient of a NumPy function of a tree of float64 arrays."""
  leaves, structure = jax.tree.flatten(arguments)
  gradients = []
  for position, leaf in enumerate(leaves):
    gradient = np.zeros_like(leaf)
    for index in np.ndindex(leaf.shape):
      sides = []
      for sign in (1, -1):
        moved = np.array(leaf)
        moved[index] += sign * step
        changed = [*leaves[:position], moved, *leaves[position + 1 :]]
        sides.append(loss(*jax.tree.unflatten(structure, changed)))
      gradient[index] = (sides[0] - sides[1]) / (2 * step)
    gradients.append(gradient)
  return jax.tree.unflatten(structure, gradients)
