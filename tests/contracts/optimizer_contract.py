"""What every optimizer must do; `tests/optim/test_contract.py` runs it on all.

`OptimizerContract` holds what optax demands of its contributed optimizers and
what this project adds, where the method itself decides. What the shared code
of the aliases decides is in `optimizer_composition`. A subclass parametrizes
`case` (`tests/optim/cases`).
"""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.interpreters import partial_eval

from normjax import optim
from tests import products
from tests.contracts import optimizer_options


def small_tree(dtype=jnp.float32):
  """Parameters of each kind: matrix, embedding, gain, 2-D bias, one element."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), dtype)

  return {
    "attention": {"query": {"kernel": normal(8, 2, 4), "bias": normal(2, 4)}},
    "embed": {"embedding": normal(16, 8)},
    "mlp": {"kernel": normal(8, 24), "bias": normal(24)},
    "norm": {"scale": normal(8)},
    "single": {"kernel": normal(1, 1)},
  }


_COMPILED = {}
# How often a case was traced.
TRACES = collections.Counter()


def compiled(case, **numbers):
  """(init, update) of a case, compiled once for all tests.

  The case's numbers are arguments of the program, so that tests with others
  share it. They are rounded to float32: of a decay such as 0.999, 1 - b2 then
  has a relative error of 6e-5.
  """
  key = str(case)
  if key not in _COMPILED:

    def update(numbers, gradients, state, params):
      TRACES[key] += 1
      return case.make(**numbers).update(gradients, state, params)

    _COMPILED[key] = jax.jit(case.make().init), jax.jit(update)
  init, update = _COMPILED[key]
  values = optimizer_options.scalars(case) | numbers
  return init, functools.partial(
    update, {k: jnp.float32(value) for k, value in values.items()}
  )


_PLAIN = {}


def plain(case):
  """(init, update) of a case with plain numbers, compiled once."""
  key = str(case)
  if key not in _PLAIN:
    tx = case.make()
    _PLAIN[key] = jax.jit(tx.init), jax.jit(tx.update)
  return _PLAIN[key]


def without_decay(case):
  """The options that turn the decay off, where there are such."""
  names = ("weight_decay", "fallback_weight_decay")
  return {k: 0.0 for k in names if k in case.parameters}


def gradients_like(params, seed=1):
  """Normal gradients in the dtypes of params."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda w: jnp.asarray(rng.normal(size=w.shape), w.dtype), params
  )


def assert_trees_close(actual, expected, rtol, atol=0.0):
  """Leaf by leaf; the structures must agree."""
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(
      np.asarray(a, np.float64), np.asarray(e, np.float64), rtol, atol
    ),
    actual,
    expected,
  )


def assert_finite(tree):
  """No NaN and no infinity."""
  for leaf in jax.tree.leaves(tree):
    assert np.isfinite(np.asarray(leaf, np.float64)).all()


def all_zero(tree):
  """Whether every entry is 0."""
  return all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(tree))


def converges(case, start, end):
  """Asserts that the case walks from `start` to the minimum at `end`."""
  tx = case.make(**{**without_decay(case), **case.convergence})

  def step(carry, _):
    params, state = carry
    gradients = jax.tree.map(lambda w, e: 2 * (w - e), params, end)
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), None

  carry = start, tx.init(start)
  (params, _), _ = jax.jit(
    lambda carry: jax.lax.scan(step, carry, length=4000)
  )(carry)
  assert_trees_close(params, end, rtol=0.03, atol=0.03)


class OptimizerContract:
  """The contract; a subclass parametrizes `case`."""

  def test_converges(self, case):
    start = jnp.array([-1.0, 10.0, 1.0]), jnp.zeros((2, 2))
    end = jnp.array([1.0, -1.0, 1.0]), jnp.array([[3.0, -2.0], [1.0, 4.0]])
    converges(case, start, end)

  @pytest.mark.parametrize(
    "dtype",
    [
      # As the other one of 16 bits.
      pytest.param(jnp.float16, marks=pytest.mark.slow),
      jnp.bfloat16,
      jnp.float32,
    ],
  )
  def test_traces(self, case, dtype):
    """Shapes, dtypes and weak types of a step, with all numbers traced.

    What is the same after a step as before runs in a scan, under a condition,
    and twice without a new compilation. Extra arguments pass through; a rate
    per run is a `vmap`, traced in float32.
    """
    params = small_tree(dtype)
    gradients = gradients_like(params)

    def step(params, gradients, scalars):
      tx = case.make(**scalars)
      state = tx.init(params)
      updates, new = tx.update(gradients, state, params, unexpected=1)
      assert jax.tree.map(jax.typeof, updates) == jax.tree.map(
        jax.typeof, params
      )
      assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, state)
      return updates

    scalars = {
      k: jnp.float32(v) for k, v in optimizer_options.scalars(case).items()
    }
    one = jax.eval_shape(step, params, gradients, scalars)
    if dtype != jnp.float32:
      return
    rows = jax.tree.map(lambda x: jnp.stack([x, x]), (params, scalars))
    two = jax.eval_shape(
      jax.vmap(step, in_axes=(0, None, 0)), rows[0], gradients, rows[1]
    )
    jax.tree.map(lambda a, b: _assert_row(a, b), one, two)

  def test_scalars_are_traced(self, case):
    """Values of a sweep are one program, and each of them has an effect.

    That the program's result is right, `test_equals_reference` says.
    """
    params = small_tree()
    init, _ = compiled(case)
    gradients = gradients_like(params), gradients_like(params, seed=2)
    start = init(params)

    def two_steps(values):
      _, update = compiled(case, **values)
      moved, state = params, start
      for g in gradients:
        updates, state = update(g, state, moved)
        moved = jax.tree.map(np.add, moved, jax.device_get(updates))
      return moved

    def changes(values, before):
      return jax.tree.map(
        lambda a, b: not np.array_equal(a, b), two_steps(values), before
      )

    scalars = optimizer_options.scalars(case)
    whole = two_steps(scalars)
    traces = TRACES[str(case)]
    silent = {
      key
      for key, value in scalars.items()
      if not any(
        jax.tree.leaves(
          changes(scalars | {key: optimizer_options.another(value)}, whole)
        )
      )
    }
    assert silent == set(case.silent) & set(scalars)
    assert TRACES[str(case)] == traces

  def test_decay_is_of_the_leaves_of_the_mask(self, case):
    """Elsewhere its rate is in no formula. No mask given is the default."""
    if "mask" not in case.parameters:
      pytest.skip("has no mask")
    params = small_tree()
    chosen = jax.tree.map(lambda _: False, params)
    chosen["mlp"]["kernel"] = chosen["norm"]["scale"] = True
    default = optim.decay_mask(params)
    if case.parameters["mask"].default is None:
      default = jax.tree.map(lambda _: True, params)

    def decayed(**mask):
      def update(weight_decay, params):
        tx = case.make(weight_decay=weight_decay, **mask)
        return tx.update(params, tx.init(params), params)[0]

      program = jax.make_jaxpr(update)(0.1, params).jaxpr
      size = len(program.outvars)
      only = [[m == n for m in range(size)] for n in range(size)]
      used = [partial_eval.dce_jaxpr(program, flags)[1][0] for flags in only]
      return jax.tree.structure(params).unflatten(used)

    assert decayed(mask=chosen) == chosen
    assert decayed() == default

  def test_moment_dtypes(self, case):
    wanted = {
      key: jnp.bfloat16
      for key in ("mu_dtype", "nu_dtype")
      if key in case.parameters
    }
    params = small_tree()
    tx = case.make(**wanted)
    state = jax.eval_shape(tx.init, params)
    _, new_state = jax.eval_shape(tx.update, params, state, params)
    assert state == new_state
    full = jax.eval_shape(case.make().init, params)
    # Counts, and what is wide on purpose.
    fixed = case.fixed_bytes + optim.state_bytes(
      [leaf for leaf in jax.tree.leaves(full) if leaf.ndim == 0]
    )
    moments = optim.state_bytes(full) - fixed
    narrow = optim.state_bytes(state) - fixed
    assert narrow == (moments // 2 if wanted else moments)

  def test_zero_gradient_moves_nothing(self, case):
    init, update = compiled(case, **without_decay(case))
    params = small_tree()
    zero = jax.tree.map(jnp.zeros_like, params)
    state = init(params)
    for _ in range(2):
      updates, state = update(zero, state, params)
      assert all_zero(updates)

  def test_products_say_their_precision(self, case):
    """None is left to the platform; operands of 16 bits cannot be rounded."""
    init, update = compiled(case)
    params = small_tree()
    traced = update.func.trace(
      *update.args, params, jax.eval_shape(init, params), params
    )
    assert not [p for p in products.of(traced.jaxpr) if p.is_rounded]

  def test_empty_tree(self, case):
    tx = case.make()
    state = tx.init({})
    updates, _ = tx.update({}, state, {})
    assert updates == {}

  def test_initial_state_ignores_scalars(self, case):
    params = small_tree()
    states = [
      case.make(rate, **{k: v * 0.5 for k, v in case.scalars().items()}).init(
        params
      )
      for rate in (1e-3, 1.0)
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)

  def test_tree_map_params(self, case):
    tx = case.make()
    params = small_tree()
    state = tx.init(params)
    doubled = optax.tree.map_params(tx, lambda leaf: leaf + 1, state)
    assert jax.tree.structure(doubled) == jax.tree.structure(state)
    moved = sum(
      not np.array_equal(a, b)
      for a, b in zip(
        jax.tree.leaves(state), jax.tree.leaves(doubled), strict=True
      )
    )
    arrays = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert moved >= len(arrays)

  def test_describe_names_every_leaf(self, case):
    params = small_tree()
    shapes = jax.eval_shape(lambda: params)
    described = optim.describe(case.name, shapes, **case.options)
    assert set(described) == {
      "attention/query/kernel",
      "attention/query/bias",
      "embed/embedding",
      "mlp/kernel",
      "mlp/bias",
      "norm/scale",
      "single/kernel",
    }

  @pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_])
  def test_bad_leaf(self, case, dtype):
    params = {"layer": {"kernel": jnp.ones((2, 3)), "n": jnp.ones(2, dtype)}}
    with pytest.raises(TypeError, match="'layer/n' is .*floating"):
      case.make().init(params)

  def test_bad_options(self, case):
    """Every option refuses a bad value, or is named as one that cannot."""
    unknown = []
    params = jax.eval_shape(small_tree)
    bad = optimizer_options.bad(case)
    for option in case.parameters:
      if option in optimizer_options.UNCHECKED:
        continue
      if option not in bad:
        unknown.append(option)
      for value, error in bad.get(option, ()):
        with pytest.raises(error, match=option):
          jax.eval_shape(case.make(**{option: value}).init, params)
    assert unknown == [], "give each a bad value in the case's `bad`"

  def test_nnx_state_and_dict_agree(self, case):
    """The same program, equation by equation."""
    layer = nnx.Linear(8, 24, rngs=nnx.Rngs(0))
    state = nnx.state({"mlp": layer}, nnx.Param)
    tx = case.make()

    def move(tree):
      return tx.update(tree, tx.init(tree), tree)

    programs = [
      str(jax.make_jaxpr(move)(tree))
      for tree in (state, nnx.to_pure_dict(state))
    ]
    assert programs[0] == programs[1]


def _assert_row(one, rows):
  assert (rows.shape, rows.dtype) == ((2, *one.shape), one.dtype)
