"""What every optimizer's state must bear; `tests/optim/test_states.py` runs it.

`OptimizerStates` holds the state in other libraries' trees, in parameters of 16
bits and after an extreme gradient; a subclass parametrizes `case`. What
compiles anew is in `OptimizerStateNumbers`.
"""

import collections

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from normjax.optim import groups
from tests.contracts.optimizer_contract import (
  assert_finite,
  assert_trees_close,
  compiled,
  gradients_like,
  small_tree,
)

# What makes every leaf of 8-bit optimizers one that is held in 8 bits.
_EIGHT_BITS = {"min_size": 1, "block_size": 4, "keep": None}


class _Flax(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.linear = nnx.Linear(4, 8, rngs=rngs)
    self.norm = nnx.LayerNorm(8, rngs=rngs)


class _Equinox(eqx.Module):
  linear: eqx.nn.Linear
  norm: eqx.nn.LayerNorm
  name: str = "static"

  def __init__(self):
    self.linear = eqx.nn.Linear(4, 8, use_bias=False, key=jax.random.key(0))
    self.norm = eqx.nn.LayerNorm(8)


def _everywhere(case):
  """The case with 8 bits in every leaf, if it has such a state."""
  return case.make(
    **{k: v for k, v in _EIGHT_BITS.items() if k in case.parameters}
  )


def _with_optimizer(case):
  """A Flax model and its optimizer."""
  model = _Flax()
  return model, nnx.Optimizer(model, _everywhere(case), wrt=nnx.Param)


def _gradients(params):
  """A gradient that depends on the weights."""
  return jax.tree.map(lambda w: jnp.cos(3 * w + 1), params)


def _run(update, init, edit, params, num_steps=5):
  """The largest entry of each leaf's update, by step, and the final state."""
  state, sizes = init(params), []
  for n in range(num_steps):
    gradients = edit(n, gradients_like(params, seed=n))
    updates, state = update(gradients, state, params)
    sizes.append([np.abs(u).max() for u in jax.tree.leaves(updates)])
  return np.array(sizes), state


def _is_affine(update, state, params):
  """Whether the first step grows as the gradient does, as SGD's."""
  gradients = gradients_like(params)
  one, two, three = (
    np.concatenate(
      [
        np.ravel(u)
        for u in jax.tree.leaves(
          update(jax.tree.map(lambda g, n=n: n * g, gradients), state, params)[
            0
          ]
        )
      ]
    )
    for n in (1.0, 2.0, 3.0)
  )
  size = np.abs(one).mean()
  grows = np.abs(two - one).mean() > 0.1 * size
  return grows and np.abs(three - 2 * two + one).max() < 1e-3 * size


def _everywhere_large(g, size):
  return np.where(g < 0, -size, size).astype(g.dtype)


def _one_large(g, size):
  g[-1] = -size
  return g


def averages_of_squares(case):
  """Paths of the state's leaves that average squares.

  They are those called nu, and those with several entries that are never
  negative, whatever the sign of the gradients: a momentum follows it, and a
  basis has both signs.
  """
  init, update = compiled(case)
  params = small_tree()
  states = [
    _run(
      update,
      init,
      lambda _, gradients, s=sign: jax.tree.map(lambda g: s * g, gradients),
      params,
      num_steps=2,
    )[1]
    for sign in (1.0, -1.0)
  ]
  found = set()
  for (path, leaf), (_, other) in zip(*map(groups.leaves, states), strict=True):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      continue
    lowest = min(np.min(leaf), np.min(other))
    never_negative = leaf.size > 1 and np.any(leaf) and lowest >= 0
    if never_negative or "nu" in path.split("/"):
      found.add(path)
  return found


_RUNS = {}


def run_in(case, dtype, scales, **options):
  """Sizes of the updates by step, and the state after them.

  The weights stay, so that their rounding does not matter.

  Args:
    case: the optimizer.
    dtype: of parameters and gradients.
    scales: of the gradient at every step. Its entries are 1 to 2 times that,
      and the same in every dtype.
    **options: of the optimizer.
  """
  key = str(case), jnp.dtype(dtype).name, str(options)
  if key not in _RUNS:
    _RUNS[key] = jax.jit(_run_of(case, dtype, options))
  sizes, state = _RUNS[key](jnp.asarray(scales, jnp.float32))
  return np.asarray(sizes), state


def _run_of(case, dtype, options):
  quiet = {k: 0.0 for k in ("weight_decay",) if k in case.parameters}
  tx = case.make(**quiet, **options)
  draws = gradients_like({"mlp": small_tree(jnp.bfloat16)["mlp"]})
  params = jax.tree.map(lambda w: w.astype(dtype), draws)
  directions = jax.tree.map(
    lambda g: np.where(g < 0, -1, 1) * (1 + np.abs(np.float32(g)) % 1), draws
  )

  def step(state, scale):
    gradients = jax.tree.map(
      lambda g: (g * scale).astype(jnp.bfloat16).astype(dtype), directions
    )
    updates, state = tx.update(gradients, state, params)
    sizes = [
      jnp.sqrt(jnp.mean(jnp.square(u.astype(jnp.float32))))
      for u in jax.tree.leaves(updates)
    ]
    return state, jnp.stack(sizes)

  def run(scales):
    state, sizes = jax.lax.scan(step, tx.init(params), scales)
    return sizes, state

  return run


class OptimizerStates:
  """The contract; a subclass parametrizes `case`."""

  def test_nnx_optimizer(self, case):
    """Split and merged in a step, its state has the types that it had."""
    model, optimizer = nnx.eval_shape(lambda: _with_optimizer(case))
    graph, before = nnx.split((model, optimizer))

    def step(state):
      model, optimizer = nnx.merge(graph, state)
      optimizer.update(model, _gradients(nnx.state(model, nnx.Param)))
      return nnx.state((model, optimizer))

    after = jax.eval_shape(step, before)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(after)] == [
      (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(before)
    ]

  def test_equinox_module(self, case):
    """The program of a filtered module, None in it, is that of a dict."""
    module = eqx.filter(_Equinox(), eqx.is_inexact_array)
    # In the order of the fields, so that the programs can be compared.
    params = collections.OrderedDict(
      (
        name,
        collections.OrderedDict(
          weight=getattr(module, name).weight, bias=getattr(module, name).bias
        ),
      )
      for name in ("linear", "norm")
    )
    tx = _everywhere(case)

    def two_steps(params):
      state = tx.init(params)
      for _ in range(2):
        updates, state = tx.update(_gradients(params), state, params)
        params = optax.apply_updates(params, updates)
      return jax.tree.leaves((params, state))

    assert str(jax.make_jaxpr(two_steps)(module)) == str(
      jax.make_jaxpr(two_steps)(params)
    )
    updates, _ = jax.eval_shape(tx.update, module, tx.init(module), module)
    assert jax.tree.structure(updates) == jax.tree.structure(module)

  def test_averages_of_squares_are_wide(self, case):
    """In 16 bits they vanish (float16) or do not decay (bfloat16)."""
    found = averages_of_squares(case)
    assert found or "nu_dtype" not in case.parameters
    for dtype in (jnp.float16, jnp.bfloat16):
      params = small_tree(dtype)
      state = jax.eval_shape(case.make().init, params)
      held = dict(groups.leaves(state))
      assert {
        path: held[path].dtype.itemsize for path in found
      } == dict.fromkeys(found, 4)

  def test_one_extreme_gradient(self, case):
    """It neither freezes a leaf nor lets a step explode."""
    init, update = compiled(case)
    params = small_tree()

    def spiked(spike, size, at):
      """A run whose gradient at one step has entries of this size."""

      def edit(n, gradients):
        if n != at:
          return gradients
        return jax.tree.map(
          lambda g: spike(np.array(g).ravel(), size).reshape(g.shape), gradients
        )

      return _run(update, init, edit, params, num_steps=at + 4)

    usual, _ = _run(update, init, lambda _, gradients: gradients, params)
    # Its own normal step, where that is not the learning rate.
    most = 10 * np.maximum(usual.max(axis=0), 0.01)
    follows = _is_affine(update, init(params), params)
    assert not (follows and "nu_dtype" in case.parameters)
    for spike in (_everywhere_large, _one_large):
      for at in (0, 1):
        sizes, state = spiked(spike, 1e30, at)
        assert_finite(state)
        if follows:
          continue
        bound = most
        if (sizes > bound).any():
          # The rule may divide by a sketch in which one entry is hardly seen;
          # but then it does so at any size.
          moderate, _ = spiked(spike, 1e6, at)
          bound = np.maximum(bound, 2 * moderate.max(axis=0))
        assert (sizes <= bound).all(), (spike, at)


class OptimizerStateNumbers:
  """What takes compilations; a subclass parametrizes `case`."""

  def test_nnx_optimizer_equals_plain(self, case):
    """Under nnx.jit, split and merged between two steps: as on a dict."""
    tx = _everywhere(case)
    model, optimizer = _with_optimizer(case)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))

    @nnx.jit
    def step(model, optimizer):
      gradients = _gradients(nnx.state(model, nnx.Param))
      optimizer.update(model, gradients)

    @jax.jit
    def plain(params, state):
      updates, state = tx.update(_gradients(params), state, params)
      return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(2):
      step(model, optimizer)
      optimizer = nnx.merge(*nnx.split(optimizer))
      params, state = plain(params, state)
    # One program, but compiled apart.
    tolerance = max(case.rounding, 1e-5)
    assert_trees_close(
      nnx.to_pure_dict(nnx.state(model, nnx.Param)),
      params,
      rtol=tolerance,
      atol=tolerance * 0.01,
    )
    held = nnx.as_pure(optimizer.opt_state)
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(held)] == [
      (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)
    ]
