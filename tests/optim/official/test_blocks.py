"""BAdam and LISA against their official code, as recorded, in float64.

`record_blocks.py` and `record_lisa.py` say how to record again. torch
multiplies a weight by 1 - lr wd, here lr wd w is subtracted: hence tolerances,
of some tens of roundings.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from normjax import optim
from normjax.optim import blocks as blocks_lib

FOLDER = pathlib.Path(__file__).parent


def recorded(method):
  """(arrays beside, start, gradients of step t, weights after step t)."""
  with np.load(FOLDER / f"{method}.npz") as file:
    there = dict(file)

  def nested(prefix, pick=lambda leaf: leaf):
    found = {}
    for name, leaf in there.items():
      if name.startswith(prefix):
        *parents, last = name.removeprefix(prefix).split(".")
        node = found
        for parent in parents:
          node = node.setdefault(parent, {})
        node[last] = jnp.asarray(pick(leaf))
    return found

  def at(prefix):
    return lambda t: nested(prefix, lambda leaf: leaf[t])

  return there, nested("start/"), at("gradients/"), at("weights/")


def follow(tx, state, params, gradients, weights, num_steps):
  """Asserts that each step gives the recorded weights."""
  update = jax.jit(tx.update)
  for t in range(num_steps):
    updates, state = update(gradients(t), state, params)
    params = optax.apply_updates(params, updates)
    jax.tree.map(
      lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12),
      params,
      weights(t),
    )


def test_badam_is_the_official_optimizer():
  """After its first step: its first block has one step less than K.

  Its group without decay takes the decay of the defaults all the same, hence
  no mask.
  """
  with jax.enable_x64(True):
    _, params, gradients, weights = recorded("badam")
    tx = optim.badam(
      0.01,
      switch_every=3,
      order="descending",
      weight_decay=0.1,
      mask=None,
      nu_dtype=jnp.float64,
    )
    state = tx.init(params)
    # What the first turn would have chosen.
    last = jnp.asarray(2, jnp.int32)
    count = state[0].count + 1
    state = (state[0]._replace(count=count, active=(last,)), *state[1:])
    follow(tx, state, params, gradients, weights, 14)


def test_lisa_is_the_official_callback(monkeypatch):
  """Of its draws, over four switches: moments and counts stay in between."""
  with jax.enable_x64(True):
    there, params, gradients, weights = recorded("lisa")
    draws = jnp.asarray(there["active"][::3], jnp.int32)
    assert len(np.unique(draws, axis=0)) == 5
    monkeypatch.setattr(
      blocks_lib, "chosen", lambda found, *, turn, **_: tuple(draws[turn])
    )
    tx = optim.lisa(
      0.01,
      switch_every=3,
      weight_decay=0.1,
      mask=None,
      nu_dtype=jnp.float64,
    )
    follow(tx, tx.init(params), params, gradients, weights, 14)
