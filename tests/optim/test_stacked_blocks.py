"""Blocks that are layers along the first axis of a leaf, as a scan has them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import errors, optim
from tests import support

D = 5
STACKED = ("layers/.*",)


def normal(*shape, seed):
  return np.asarray(support.normal(*shape, seed=seed), np.float32)


def stacked(seed=0):
  """A decoder's leaves, all layers in one leaf each."""
  return {
    "embedding": {"embedding": normal(8, 4, seed=seed)},
    "layers": {
      "mlp": {
        "kernel": normal(D, 4, 4, seed=seed + 100),
        "bias": normal(D, 4, seed=seed + 200),
      }
    },
    "final_norm": {"scale": normal(4, seed=seed + 300)},
  }


def apart(tree):
  """The same with a subtree per layer."""
  layers = tree["layers"]
  return tree | {
    "layers": {
      str(n): jax.tree.map(lambda leaf, n=n: leaf[n], layers) for n in range(D)
    }
  }


def methods(**options):
  """Pairs of (unstacked, stacked) optimizers, by name."""

  def pair(make, **own):
    return make(**own), make(**own, **options)

  mask = {"mask": lambda tree: jax.tree.map(lambda leaf: True, tree)}
  decays = {"weight_decay": 0.1, **mask}
  return {
    "badam": pair(lambda **o: optim.badam(0.1, switch_every=2, **decays, **o)),
    "badam, others": pair(
      lambda **o: optim.badam(
        0.1, switch_every=2, order="descending", others="block", **o
      )
    ),
    "lisa": pair(lambda **o: optim.lisa(0.1, switch_every=2, **decays, **o)),
    "lisa, reset": pair(
      lambda **o: optim.lisa(0.1, switch_every=2, reset_state=True, **o)
    ),
    "bcd, greedy": pair(
      lambda **o: optim.bcd(0.1, order="greedy", num_active=2, **o)
    ),
    "muon": pair(
      lambda **o: optim.block_wise(optim.muon(0.1), switch_every=2, **o)
    ),
    "adam_8bit": pair(
      lambda **o: optim.block_wise(
        optim.adam_8bit(0.1, min_size=1, block_size=4), switch_every=2, **o
      )
    ),
  }


METHODS = methods(stacked=STACKED)


@pytest.mark.parametrize("name", METHODS)
def test_a_stack_moves_as_its_layers_do(name):
  """Over switches, to the bit: the same draws, of the same numbers.

  The order of rounding is the same, too: a layer is sliced out, then all is
  what the unstacked tree does. LISA's moments alone are computed where they
  lie, and the compiler may contract a product and a sum there: two ulps of
  what is added, which the root and the quotient at most keep relative; eight
  steps of both moments.
  """
  alone, together = METHODS[name]
  params = stacked()
  state, layered = together.init(params), alone.init(apart(params))
  move, each = jax.jit(together.update), jax.jit(alone.update)
  moved = set()
  tolerance = 16 * 2 * np.finfo(np.float32).eps if name == "lisa" else 0.0
  for t in range(8):
    gradients = stacked(seed=t + 1)
    updates, state = move(gradients, state, params)
    expected, layered = each(apart(gradients), layered, apart(params))
    jax.tree.map(
      lambda a, e: np.testing.assert_allclose(a, e, rtol=tolerance, atol=0),
      apart(updates),
      expected,
    )
    params = optax.apply_updates(params, updates)
    moved |= {
      n for n in range(D) if np.any(updates["layers"]["mlp"]["bias"][n])
    }
  assert len(moved) > 1


def test_state_is_that_of_one_layer():
  """1 / D of Adam's to the byte, for the stack."""
  params = {"layers": stacked()["layers"]}
  state = jax.eval_shape(optim.badam(0.1, stacked=STACKED).init, params)
  adam = jax.eval_shape(optim.adamw(0.1).init, params)

  def moments(tree):
    return sum(
      leaf.size * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
      if leaf.ndim
    )

  assert moments(state) == moments(adam) // D == 8 * 20


def test_lisa_counts_steps_of_each_layer():
  params = stacked()
  tx = optim.lisa(0.1, num_active=1, switch_every=1, stacked=STACKED)
  state = tx.init(params)
  for _ in range(4):
    _, state = tx.update(params, state, params)
  (steps,) = (
    leaf
    for path, leaf in jax.tree.leaves_with_path(state)
    if "steps" in jax.tree_util.keystr(path) and "bias" in str(path)
  )
  assert steps.shape == (D,)
  assert steps.sum() == 4


def test_the_program_does_not_grow_with_the_depth():
  """One slice is moved, whatever the number of layers."""

  def size(depth):
    params = {
      "layers": {"kernel": jax.ShapeDtypeStruct((depth, 4, 4), jnp.float32)}
    }
    tx = optim.badam(0.1, stacked=STACKED)
    state = jax.eval_shape(tx.init, params)
    return len(jax.make_jaxpr(tx.update)(params, state, params).jaxpr.eqns)

  assert size(3) == size(48)


def test_runs_side_by_side():
  """Two seeds of the order under `vmap` are two runs."""
  params = stacked()

  def last(seed):
    tx = optim.badam(0.1, switch_every=1, seed=seed, stacked=STACKED)
    state = tx.init(params)
    for _ in range(3):
      updates, state = tx.update(params, state, params)
    return updates["layers"]

  seeds = jnp.arange(3)
  together = jax.jit(jax.vmap(last))(seeds)
  for n, seed in enumerate(seeds):
    jax.tree.map(
      lambda a, e, n=n: np.testing.assert_allclose(a[n], e, rtol=1e-6),
      together,
      jax.jit(last)(seed),
    )


@pytest.mark.parametrize(
  ("patterns", "message"),
  [
    (("blocks/.*",), "stacked: no leaf is left for 'blocks"),
    ((".*",), "stacked='.*': .* has the shape .*one number of layers"),
    (("layers/.*", "layers/mlp/.*"), "no leaf is left for 'layers/mlp"),
    (("(",), "stacked"),
  ],
)
def test_bad_stacks(patterns, message):
  with pytest.raises(errors.UserError, match=message):
    optim.badam(0.1, stacked=patterns).init(stacked())


def test_scalars_are_no_stack():
  params = {"layers": {"gain": jnp.ones(())}}
  with pytest.raises(errors.UserError, match=r"the shape \(\); allowed"):
    optim.badam(0.1, stacked=STACKED).init(params)


def test_describe_names_the_layers():
  said = optim.describe("badam", stacked(), stacked=STACKED)
  assert said["layers/mlp/kernel"] == (
    f"badam, blocks layers/.*[0] to layers/.*[{D - 1}]"
  )
  assert said["final_norm/scale"] == "never moves"
