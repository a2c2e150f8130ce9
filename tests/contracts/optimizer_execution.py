"""What of every optimizer takes compilations or many steps.

`tests/optim/test_contract.py` runs it on one of each family, and on all in
`make test-all`.
"""

import itertools

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.contracts.optimizer_contract import (
  all_zero,
  assert_finite,
  assert_trees_close,
  compiled,
  gradients_like,
  small_tree,
)


class ExecutionContract:
  """What takes compilations or many steps: one of each family in `make test`.

  The structure of the same is in `optimizer_meshes` and `optimizer_states`, for
  every optimizer.
  """

  def test_low_precision_is_finite(self, case):
    """Leaves of several dtypes in one tree; each keeps its own."""
    dtypes = itertools.cycle((jnp.bfloat16, jnp.float16, jnp.float32))
    params = jax.tree.map(lambda w: w.astype(next(dtypes)), small_tree())
    tx = case.make()
    updates, _ = jax.jit(
      lambda params, gradients: tx.update(gradients, tx.init(params), params)
    )(params, gradients_like(params))
    assert_finite(updates)
    assert not all_zero(updates)

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


def _assert_equivalent(leaf, sharding):
  assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
