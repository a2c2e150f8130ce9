"""What the shared code of the aliases decides: rates, masks, wrappers of optax.

`tests/optim/test_contract.py` runs it on one optimizer of each family, and on
all in `make test-all`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import optim
from tests.contracts.optimizer_contract import (
  all_zero,
  assert_finite,
  assert_trees_close,
  compiled,
  converges,
  gradients_like,
  small_tree,
)

# What decays by default in the small tree: no gain, and no bias of two axes.
MATRICES = {
  "attention": {"query": {"kernel": True, "bias": False}},
  "embed": {"embedding": True},
  "mlp": {"kernel": True, "bias": False},
  "norm": {"scale": False},
  "single": {"kernel": True},
}


class CompositionContract:
  """The contract; a subclass parametrizes `case` (`cases.by_family`)."""

  @pytest.mark.parametrize("rank", [1, 2])
  def test_converges_on_an_array(self, case, rank):
    """The tree is one array, whose path is empty."""
    if rank == 1:
      start, end = jnp.array([-1.0, 10.0, 1.0]), jnp.array([1.0, -1.0, 1.0])
    else:
      start, end = jnp.zeros((2, 2)), jnp.array([[3.0, -2.0], [1.0, 4.0]])
    converges(case, start, end)

  def test_inject_hyperparams(self, case):
    options = {"learning_rate": 0.01, **case.options}
    injected = optax.inject_hyperparams(
      optim.REGISTRY.get(case.name),
      static_args=[
        name
        for name, parameter in case.parameters.items()
        if isinstance(options.get(name, parameter.default), int | str | bool)
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

    # Of a method that moves a block at a time all leaves are one.
    all_at_once = {"blocks": (".*",)} if "blocks" in case.parameters else {}

    def moved(given):
      tx = case.make(weight_decay=0.1, mask=given, **all_at_once)
      update = jax.jit(tx.update)
      # The second: SOAP's first waits for its bases.
      _, state = update(zero, tx.init(params), params)
      updates, _ = update(zero, state, params)
      return jax.tree.map(lambda u: bool(np.any(u)), updates)

    assert moved(lambda _: mask) == mask
    assert moved("default") == MATRICES

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
