"""Blocks: who moves when, and what is held."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import errors, optim
from normjax.optim import blocks as blocks_lib

D = 12


def tree(layers=D, seed=0):
  """A decoder's leaves: two ends and like layers."""
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  return {
    "embedding": {"embedding": normal(8, 4)},
    "layers": {
      str(n): {"mlp": {"kernel": normal(4, 4), "bias": normal(4)}}
      for n in range(layers)
    },
    "final_norm": {"scale": normal(4)},
    "head": {"kernel": normal(4, 8)},
  }


def follow(tx, params, steps):
  """For each step, which entries of the root and which layers moved.

  The gradient is 1 everywhere.
  """
  state, update = tx.init(params), jax.jit(tx.update)
  gradients = jax.tree.map(jnp.ones_like, params)
  rows = []
  for _ in range(steps):
    updates, state = update(gradients, state, params)
    layers = updates["layers"]
    moved = {
      int(n) for n in layers if all(map(np.any, jax.tree.leaves(layers[n])))
    }
    still = {
      int(n) for n in layers if not any(map(np.any, jax.tree.leaves(layers[n])))
    }
    assert moved | still == set(map(int, layers)), "a part of a layer moved"
    ends = {
      name
      for name in ("embedding", "final_norm", "head")
      if any(map(np.any, jax.tree.leaves(updates[name])))
    }
    rows.append((frozenset(moved), frozenset(ends)))
  return rows


def test_each_layer_moves_once_per_round():
  """For exactly K steps; ends never; a shuffle of its own per round."""
  rows = follow(optim.badam(0.1, switch_every=2), tree(), 4 * D)
  moved = [next(iter(layers)) for layers, _ in rows]
  assert all(len(layers) == 1 and not ends for layers, ends in rows)
  assert moved[::2] == moved[1::2]
  first, second = moved[: 2 * D : 2], moved[2 * D :: 2]
  assert sorted(first) == sorted(second) == list(range(D))
  assert first != second


def test_no_turn_has_a_block_twice():
  """Where they do not come out even, a round's last turn begins it again."""
  params = tree(3)
  found = blocks_lib.blocks_of("block_wise", params, (), "never")
  rounds = []
  for turn in range(24):
    active = blocks_lib.chosen(
      found, order="random", turn=jnp.int32(turn), num_active=2, seed=0
    )
    rounds.append([int(block) for block in active])
  assert all(len(set(turn)) == 2 for turn in rounds)
  for first, second in zip(rounds[::2], rounds[1::2], strict=True):
    assert {*first, *second} == {0, 1, 2}
    assert second[1] == first[0]


@pytest.mark.parametrize(
  ("order", "expected"), [("ascending", [0, 1, 2]), ("descending", [2, 1, 0])]
)
def test_orders(order, expected):
  tx = optim.badam(0.1, switch_every=1, order=order)
  moved = [next(iter(layers)) for layers, _ in follow(tx, tree(3), 6)]
  assert moved == expected * 2


def test_layer_one_is_not_layer_ten():
  """Layers are ordered as numbers, and a name is matched whole."""
  found = blocks_lib.blocks_of("badam", tree(), (), "never")
  assert found.names == tuple(f"layers/{n}" for n in range(D))
  assert sorted(set(found.of_leaf)) == list(range(-1, D))
  assert all(found.of_leaf.count(n) == 2 for n in range(D))


def test_adam_starts_again_at_a_switch():
  """First update lr sign(g); equal to plain Adam, begun anew for each."""
  params = tree(2)
  tx = optim.badam(0.1, switch_every=3, order="ascending")
  plain = optim.adamw(0.1, weight_decay=0.0)
  state, update = tx.init(params), jax.jit(tx.update)
  inner = plain.init(params)
  move = jax.jit(plain.update)
  for t in range(9):
    gradients = tree(2, seed=t + 1)
    if t % 3 == 0:
      inner = plain.init(params)
    updates, state = update(gradients, state, params)
    expected, inner = move(gradients, inner, params)
    layer = str(t // 3 % 2)
    jax.tree.map(
      lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-6),
      updates["layers"][layer],
      expected["layers"][layer],
    )
    if t % 3 == 0:
      # eps over the smallest |g|.
      jax.tree.map(
        lambda u, g: np.testing.assert_allclose(u, -0.1 * np.sign(g), 1e-4),
        updates["layers"][layer],
        gradients["layers"][layer],
      )


@pytest.mark.parametrize("reset", [False, True])
def test_lisa_moves_two_layers_and_both_ends(reset):
  tx = optim.lisa(0.1, switch_every=2, reset_state=reset)
  rows = follow(tx, tree(), 40)
  assert all(len(layers) == 2 for layers, _ in rows)
  assert all(ends == {"embedding", "final_norm", "head"} for _, ends in rows)
  assert rows[::2] == rows[1::2]
  counts = np.bincount([n for layers, _ in rows[::2] for n in layers])
  # 20 draws of 2 of 12: 3.3 each, deviation 1.7.
  assert counts.max() <= 9
  assert (counts > 0).sum() >= 9


def test_lisa_keeps_moments_and_counts_of_each_layer():
  """A layer that comes back goes on as torch's Adam would: t is its own."""
  params = tree(3)
  tx = optim.lisa(0.1, num_active=1, switch_every=1, seed=1)
  state, update = tx.init(params), jax.jit(tx.update)
  plain = optim.adamw(0.1, weight_decay=0.0)
  layers = {n: plain.init(params["layers"][n]) for n in params["layers"]}
  ends = {k: v for k, v in params.items() if k != "layers"}
  end_state = plain.init(ends)
  came_back = 0
  for t in range(8):
    gradients = tree(3, seed=t + 1)
    updates, state = update(gradients, state, params)
    moved = [n for n in layers if np.any(updates["layers"][n]["mlp"]["kernel"])]
    assert len(moved) == 1
    came_back += int(layers[moved[0]][0].count > 0)
    expected, layers[moved[0]] = plain.update(
      gradients["layers"][moved[0]],
      layers[moved[0]],
      params["layers"][moved[0]],
    )
    expected_ends, end_state = plain.update(
      {k: gradients[k] for k in ends}, end_state, ends
    )
    for actual, wanted in (
      (updates["layers"][moved[0]], expected),
      ({k: updates[k] for k in ends}, expected_ends),
    ):
      jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-7),
        actual,
        wanted,
      )
  assert came_back


def test_greedy_takes_the_largest_gradient():
  params = tree(4)
  tx = optim.bcd(0.5, order="greedy", others="never")
  gradients = jax.tree.map(lambda w: jnp.full_like(w, 0.1), params)
  gradients["layers"]["2"]["mlp"]["bias"] = jnp.full((4,), 9.0)
  updates, _ = jax.jit(tx.update)(gradients, tx.init(params), params)
  assert np.any(updates["layers"]["2"]["mlp"]["kernel"])
  np.testing.assert_allclose(updates["layers"]["2"]["mlp"]["bias"], -4.5)
  assert not np.any(updates["layers"]["1"]["mlp"]["kernel"])


def test_one_block_is_the_inner_optimizer_with_restarts():
  """Here of Muon: any transform may be inside."""
  params = {"layers": {"0": {"kernel": tree()["head"]["kernel"]}}}
  inner = optim.muon(0.1)
  tx = optim.block_wise(inner, switch_every=2)
  state, plain = tx.init(params), inner.init(params)
  for t in range(4):
    gradients = jax.tree.map(lambda w, t=t: jnp.cos(w + t), params)
    plain = inner.init(params) if t == 2 else plain
    updates, state = tx.update(gradients, state, params)
    expected, plain = inner.update(gradients, plain, params)
    np.testing.assert_allclose(
      updates["layers"]["0"]["kernel"],
      expected["layers"]["0"]["kernel"],
      rtol=1e-6,
    )


def test_the_inner_optimizer_sees_its_block_alone():
  """Not a block of another kind: a norm of all it is given is of the block."""
  params = tree(2)
  inner = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
  tx = optim.block_wise(
    inner, switch_every=1, order="ascending", others="block"
  )
  state, update = tx.init(params), jax.jit(tx.update)
  gradients = jax.tree.map(lambda w: 10 * jnp.ones_like(w), params)
  for _ in range(3):
    updates, state = update(gradients, state, params)
    # A norm of at most 68 entries, of which each square is rounded.
    np.testing.assert_allclose(optax.tree.norm(updates), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
  ("tx", "held"),
  [
    (optim.badam(0.1), 8 * 20),
    (optim.badam(0.1, others="block"), 8 * (20 + 68)),
    (optim.lisa(0.1), 8 * (20 * D + 68) + 4 * 2 * D),
    (optim.lisa(0.1, reset_state=True), 8 * (20 * 2 + 68)),
    (optim.bcd(0.1), 0),
  ],
  ids=["badam", "badam-others", "lisa", "lisa-reset", "bcd"],
)
def test_state_bytes(tx, held):
  """Of one layer of D, to the byte; then a few counters."""
  state = jax.eval_shape(tx.init, tree())
  counters = [
    leaf
    for leaf in jax.tree.leaves(state)
    if leaf.shape == () and leaf.dtype == jnp.int32
  ]
  # LISA's steps, one per leaf of a layer, are counted above.
  own = 2 * D if held == 8 * (20 * D + 68) + 8 * D else 0
  few = 4 * (len(counters) - own)
  assert optim.state_bytes(state) == held + few
  assert len(counters) - own <= 6


def test_frozen_leaves_stay_bit_for_bit():
  params = tree(3)
  tx = optim.badam(0.1, switch_every=1, order="ascending", weight_decay=0.1)
  state = tx.init(params)
  gradients = jax.tree.map(jnp.ones_like, params)
  updates, state = jax.jit(tx.update)(gradients, state, params)
  after = optax.apply_updates(params, updates)
  for n in ("1", "2"):
    jax.tree.map(
      np.testing.assert_array_equal, after["layers"][n], params["layers"][n]
    )
  np.testing.assert_array_equal(
    after["head"]["kernel"], params["head"]["kernel"]
  )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"blocks": ("layers/.*",)}, "miss the leaf 'embedding/embedding'"),
    ({"blocks": (".*", "layers/.*")}, "no leaf is left for 'layers/"),
    ({"blocks": ("(",)}, "blocks"),
    ({"order": "alphabetical"}, "order='alphabetical'; allowed"),
    ({"switch_every": 0}, "switch_every=0; allowed"),
  ],
)
def test_bad_schedules(options, message):
  with pytest.raises(errors.UserError, match=message):
    optim.badam(0.1, **options).init(tree(2))


def test_more_layers_than_there_are():
  with pytest.raises(
    errors.UserError, match="num_active=3; allowed: at most 2"
  ):
    optim.lisa(0.1, num_active=3).init(tree(2))


def test_describe_names_blocks():
  said = optim.describe("badam", tree(2))
  assert said["layers/1/mlp/kernel"] == "badam, block layers/1"
  assert said["head/kernel"] == "never moves"
  assert optim.describe("lisa", tree(2))["head/kernel"] == "lisa, always"
