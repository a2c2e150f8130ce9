"""What every optimizer must do; `tests/optim/test_contract.py` runs it on all.

`OptimizerContract` holds what optax demands of its contributed optimizers and
what this project adds; a subclass parametrizes `case` (`tests/optim/cases`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import optim

BAD_OPTIONS = (
  ("learning_rate", -0.1, ValueError),
  ("learning_rate", float("nan"), ValueError),
  ("learning_rate", "fast", TypeError),
  ("learning_rate", jnp.ones(2), TypeError),
  ("b1", 1.0, ValueError),
  ("b2", -0.1, ValueError),
  ("beta", 1.5, ValueError),
  ("eps", -1e-8, ValueError),
  ("weight_decay", -0.1, ValueError),
  ("weight_decay", float("inf"), ValueError),
  ("weight_decay", True, TypeError),
  ("mask", "some", ValueError),
  ("fallback_learning_rate", -1.0, ValueError),
  ("fallback_b2", 1.0, ValueError),
  ("fallback_eps", -1.0, ValueError),
  ("matrix_scale", -1.0, ValueError),
  ("num_iters", 0, ValueError),
  ("first", "rows", ValueError),
  ("ns_steps", 2.5, TypeError),
  ("ns_coeffs", (1.0, 2.0), ValueError),
  ("scaling", "none", ValueError),
  ("momentum", 1.0, ValueError),
  ("dampening", -0.5, ValueError),
  ("delta", -1.0, ValueError),
  ("preset", "paper", ValueError),
  ("ns_beta", 1.0, ValueError),
  ("prenorm", "none", ValueError),
  ("side", "rows", ValueError),
  ("wd_ratio", -1.0, ValueError),
  ("per", "row", ValueError),
  ("every", 0, ValueError),
  ("vectors", "some", ValueError),
  ("vector_decay", 1.0, ValueError),
  ("precondition_frequency", 0, ValueError),
  ("max_precond_dim", -1, ValueError),
  ("decay_rate", -1.0, ValueError),
  ("clipping_threshold", -1.0, ValueError),
  ("min_dim_size_to_factor", 0, ValueError),
  ("min_parameter_scale", -1.0, ValueError),
  ("update_proj_gap", 0, ValueError),
  ("scale", -1.0, ValueError),
  ("rank", 0, ValueError),
  ("rank", 2.5, TypeError),
  ("residual", "none", ValueError),
)


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


def compiled(case, **options):
  """(init, update) of a case, compiled once for all tests."""
  key = f"{case} {sorted(options.items())}"
  if key not in _COMPILED:
    tx = case.make(**options)
    _COMPILED[key] = jax.jit(tx.init), jax.jit(tx.update)
  return _COMPILED[key]


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


def _parabola():
  return jnp.array([-1.0, 10.0, 1.0]), jnp.array([1.0, -1.0, 1.0])


def _matrix_parabola():
  return jnp.zeros((2, 2)), jnp.array([[3.0, -2.0], [1.0, 4.0]])


def _mixed():
  start = jnp.zeros(3), jnp.zeros((2, 2))
  end = jnp.array([1.0, -1.0, 2.0]), jnp.array([[1.0, 0.0], [-1.0, 1.0]])
  return start, end


class OptimizerContract:
  """The contract; a subclass parametrizes `case`."""

  @pytest.mark.parametrize("target", [_parabola, _matrix_parabola, _mixed])
  def test_converges(self, case, target):
    start, end = target()
    quiet = {k: 0.0 for k in ("weight_decay",) if k in case.parameters}
    tx = case.make(**{**quiet, **case.convergence})

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

  def test_extra_args_and_no_recompilation(self, case):
    tx = case.make()
    traces = []

    @jax.jit
    def step(params, state):
      traces.append(1)
      updates, state = tx.update(params, state, params, unexpected=1)
      return optax.apply_updates(params, updates), state

    params = small_tree()
    state = tx.init(params)
    for _ in range(3):
      params, state = step(params, state)
    assert len(traces) == 1
    assert_finite(params)

  def test_inject_hyperparams(self, case):
    options = {"learning_rate": 0.01, **case.options}
    injected = optax.inject_hyperparams(
      optim.REGISTRY.get(case.name),
      static_args=[
        name
        for name, parameter in case.parameters.items()
        if isinstance(parameter.default, int | str | bool)
      ],
    )(**options)
    params = small_tree()
    gradients = gradients_like(params)
    init, update = compiled(case)
    expected, state = update(gradients, init(params), params)
    actual, injected_state = jax.jit(injected.update)(
      gradients, jax.jit(injected.init)(params), params
    )
    assert_trees_close(actual, expected, rtol=1e-4, atol=1e-6)
    assert_trees_close(injected_state.inner_state, state, rtol=1e-4, atol=1e-6)

  @pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
  def test_dtypes_are_stable(self, case, dtype):
    tx = case.make()
    params = small_tree(dtype)
    state = tx.init(params)

    @jax.jit
    def step(state, gradients, flag):
      return jax.lax.cond(
        flag,
        lambda: tx.update(gradients, state, params),
        lambda: (params, state),
      )

    updates, new_state = step(state, gradients_like(params), True)
    for u, w in zip(
      jax.tree.leaves(updates), jax.tree.leaves(params), strict=True
    ):
      assert (u.dtype, u.shape) == (w.dtype, w.shape)
    assert jax.eval_shape(lambda: state) == jax.eval_shape(lambda: new_state)
    assert_finite(updates)

  def test_moment_dtypes(self, case):
    wanted = {
      key: jnp.bfloat16
      for key in ("mu_dtype", "nu_dtype")
      if key in case.parameters
    }
    params = small_tree()
    tx = case.make(**wanted)
    state = tx.init(params)
    _, new_state = jax.eval_shape(tx.update, params, state, params)
    assert jax.eval_shape(lambda: state) == new_state
    narrow = optim.state_bytes(state)
    full = optim.state_bytes(case.make().init(params))
    if {"mu_dtype", "nu_dtype"} <= set(wanted):
      counts = sum(
        leaf.nbytes for leaf in jax.tree.leaves(state) if leaf.ndim == 0
      )
      fixed = counts + case.fixed_bytes
      assert narrow - fixed == (full - fixed) // 2
    else:
      assert narrow <= full

  def test_multi_steps(self, case):
    every = optax.MultiSteps(case.make(), every_k_schedule=2)
    params = small_tree()
    state = jax.jit(every.init)(params)
    gradients = gradients_like(params)
    update_every = jax.jit(every.update)
    first, state = update_every(gradients, state, params)
    assert all_zero(first)
    second, _ = update_every(gradients, state, params)
    init, update = compiled(case)
    expected, _ = update(gradients, init(params), params)
    assert_trees_close(second, expected, rtol=1e-4, atol=1e-6)

  def test_schedules(self, case):
    params = small_tree()
    gradients = gradients_like(params)
    rates = {
      key: lambda count: jnp.where(count == 0, 0.01, 0.0)
      for key in case.parameters
      if key.endswith("learning_rate")
    }
    tx = case.make(**rates)
    scheduled = jax.jit(tx.update)
    first, state = scheduled(gradients, tx.init(params), params)
    init, update = compiled(case, **dict.fromkeys(rates, 0.01))
    expected, _ = update(gradients, init(params), params)
    assert_trees_close(first, expected, rtol=1e-4, atol=1e-6)
    second, _ = scheduled(gradients, state, params)
    assert all_zero(second)

  def test_mask_picks_what_decays(self, case):
    if "mask" not in case.parameters:
      pytest.skip("has no mask")
    params = small_tree()
    mask = jax.tree.map(lambda _: False, params)
    mask["mlp"]["kernel"] = mask["norm"]["scale"] = True
    zero = jax.tree.map(jnp.zeros_like, params)

    def moved(given):
      tx = case.make(weight_decay=0.1, mask=given)
      update = jax.jit(tx.update)
      # The second: SOAP's first waits for its bases.
      _, state = update(zero, tx.init(params), params)
      updates, _ = update(zero, state, params)
      return jax.tree.map(lambda u: bool(np.any(u)), updates)

    assert moved(mask) == moved(lambda _: mask) == mask
    assert moved("default") == optim.decay_mask(params)

  def test_zero_gradient_moves_nothing(self, case):
    quiet = {k: 0.0 for k in ("weight_decay",) if k in case.parameters}
    init, update = compiled(case, **quiet)
    params = small_tree()
    zero = jax.tree.map(jnp.zeros_like, params)
    state = init(params)
    for _ in range(2):
      updates, state = update(zero, state, params)
      assert all_zero(updates)

  def test_extreme_gradients_are_finite(self, case):
    init, update = compiled(case)
    params = small_tree()
    gradients = gradients_like(params)
    kernel = gradients["mlp"]["kernel"]
    edited = [
      jax.tree.map(lambda g: g * 1e30, gradients),
      jax.tree.map(lambda g: g * 1e-30, gradients),
      gradients | {"mlp": {**gradients["mlp"], "kernel": kernel.at[2].set(0)}},
      gradients
      | {"mlp": {**gradients["mlp"], "kernel": kernel.at[:, 5].set(0)}},
      gradients
      | {"mlp": {**gradients["mlp"], "kernel": kernel.at[0].mul(1e30)}},
    ]
    for scale in (1.0, 1e30, 1e-30, 0.0):
      scaled = jax.tree.map(lambda w, s=scale: w * s, params)
      for case_gradients in edited:
        updates, state = update(case_gradients, init(scaled), scaled)
        assert_finite(updates)
        assert_finite(update(gradients, state, scaled)[0])

  def test_empty_tree(self, case):
    tx = case.make()
    state = tx.init({})
    updates, _ = tx.update({}, state, {})
    assert updates == {}

  def test_scalars_are_traced(self, case):
    """Values of a sweep are one program, and equal those of numbers."""
    traces = []
    params = small_tree()
    gradients = gradients_like(params)

    @jax.jit
    def two_steps(params, scalars):
      traces.append(1)
      state = case.make(**scalars).init(params)
      for _ in range(2):
        tx = case.make(**scalars)
        updates, new_state = tx.update(gradients, state, params)
        assert jax.tree.structure(state) == jax.tree.structure(new_state)
        state = new_state
        params = optax.apply_updates(params, updates)
      return params

    scalars = {"learning_rate": 0.01, **case.scalars()}
    as_arrays = {k: jnp.float32(v) for k, v in scalars.items()}
    actual = two_steps(params, as_arrays)
    two_steps(params, {k: v * 0.5 for k, v in as_arrays.items()})
    assert len(traces) == 1
    expected = jax.jit(lambda params: _steps(case.make(), params, gradients))(
      params
    )
    # A decay such as 0.999 is rounded when it becomes an array: 1 - b2 has a
    # relative error of 6e-5.
    assert_trees_close(actual, expected, rtol=1e-3, atol=1e-5)

  def test_vmap_over_runs(self, case):
    """Two runs side by side, each with its own rate, weights and state."""
    trees = [small_tree(), gradients_like(small_tree())]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    rates = jnp.array([0.01, 0.03])

    def move(params, rate):
      tx = case.make(rate)
      return tx.update(params, tx.init(params), params)[0]

    both = jax.jit(jax.vmap(move))(params, rates)
    init, update = compiled(case)
    alone, _ = update(trees[0], init(trees[0]), trees[0])
    # Sums in another order, amplified as in one step.
    tolerance = max(case.rounding, 1e-4)
    first = jax.tree.map(lambda leaf: leaf[0], both)
    assert_trees_close(first, alone, rtol=tolerance, atol=tolerance * 0.01)
    assert_finite(both)

  def test_initial_state_ignores_scalars(self, case):
    params = small_tree()
    states = [
      case.make(rate, **{k: v * 0.5 for k, v in case.scalars().items()}).init(
        params
      )
      for rate in (1e-3, 1.0)
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)

  def test_eight_devices_equal_one(self, case):
    """Sharded parameters: the same updates, and the state stays sharded."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    init, update = compiled(case)
    params = small_tree()
    gradients = gradients_like(params)
    kinds = {w.shape for w in jax.tree.leaves(params)}

    def shard(w):
      whole = case.keeps_whole and w.shape not in kinds
      split = [
        "d" if n == w.ndim - 1 and size % 8 == 0 and not whole else None
        for n, size in enumerate(w.shape)
      ]
      return NamedSharding(mesh, PartitionSpec(*split))

    shards = jax.tree.map(shard, params)
    spread = jax.device_put(params, shards)
    state = init(spread)
    state = jax.device_put(
      state, jax.tree.map(shard, jax.eval_shape(lambda: state))
    )
    before = jax.tree.map(lambda leaf: leaf.sharding, state)
    updates, state = update(jax.device_put(gradients, shards), state, spread)
    jax.tree.map(_assert_equivalent, state, before)
    one, _ = update(gradients, init(params), params)
    # Sums in another order: 192 terms, amplified as in one float32 step.
    tolerance = max(case.rounding, 1e-4)
    assert_trees_close(updates, one, rtol=tolerance, atol=tolerance * 0.01)

  def test_bad_options(self, case):
    for option, value, error in BAD_OPTIONS:
      if option in case.parameters:
        with pytest.raises(error, match=option):
          case.make(**{option: value}).init({})

  @pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_])
  def test_bad_leaf(self, case, dtype):
    params = {"layer": {"kernel": jnp.ones((2, 3)), "n": jnp.ones(2, dtype)}}
    with pytest.raises(TypeError, match="'layer/n' is .*floating"):
      case.make().init(params)

  @pytest.mark.parametrize("option", ["mask", "dims"])
  def test_bad_trees(self, case, option):
    if option not in case.parameters:
      pytest.skip("has no such option")
    params = small_tree()
    zero = jax.tree.map(jnp.zeros_like, params)
    entry = True if option == "mask" else None

    def use(tree):
      tx = case.make(weight_decay=0.1, **{option: tree})
      tx.update(zero, tx.init(params), params)

    with pytest.raises(ValueError, match=f"{option} has no entry.*'attention"):
      use({"mlp": entry})
    with pytest.raises(ValueError, match=f"{option} has an entry.*'extra'"):
      use(dict.fromkeys((*params, "extra"), entry))
    with pytest.raises(TypeError, match=f"{option}.*allowed"):
      use(jax.tree.map(lambda _: 3.5, params))

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

  def test_nnx_state_and_dict_agree(self, case):
    layer = nnx.Linear(8, 24, rngs=nnx.Rngs(0))
    state = nnx.state({"mlp": layer}, nnx.Param)
    params = nnx.to_pure_dict(state)
    tx = case.make()

    def move(tree):
      gradients = jax.tree.map(lambda w: jnp.cos(3 * w + 1), tree)
      updates, _ = tx.update(gradients, tx.init(tree), tree)
      return updates

    expected = move(params)
    actual = nnx.to_pure_dict(move(state))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def _steps(tx, params, gradients, num_steps=2):
  state = tx.init(params)
  for _ in range(num_steps):
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
  return params


def _assert_equivalent(leaf, sharding):
  assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
