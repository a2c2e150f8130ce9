"""Steps equal to those of MeZO, as `record.py` has recorded them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import objectives
from normjax.nn import shifted
from normjax.nn import variables as nn_variables
from normjax.train import state as train_state
from tests.train.zeroth_order import cases
from tests.train.zeroth_order.official import inputs

FOUND = np.load(pathlib.Path(__file__).parent / "steps.npz")


class Model(nnx.Module):
  """The official one's, with kernels as (in, out)."""

  def __init__(self):
    rngs, double = nnx.Rngs(0), {"param_dtype": jnp.float64}
    self.layers = nnx.List([nnx.Linear(3, 5, rngs=rngs, **double)])
    self.head = nnx.Linear(5, 4, rngs=rngs, **double)

  def __call__(self, x, *, train=True, key=None):
    return self.head(jnp.tanh(self.layers[0](x)))


def _sums(output, batch):
  """Cross-entropy in float64; the package's is in float32."""
  losses = optax.softmax_cross_entropy_with_integer_labels(
    output.logits, batch["targets"]
  )
  total = jnp.sum(losses * batch["weight"])
  return {
    objectives.MINIMIZED: total,
    objectives.LOSS: total,
  }


OBJECTIVE = objectives.Objective("own", "", (objectives.LOSS,), _sums)


def _ours(values):
  """A tree of arrays by official names, as parameters of `Model`."""
  tree = {"layers": {"0": {}}, "head": {}}
  for name, path in inputs.PATHS.items():
    *parents, leaf = path.split("/")
    node = tree
    for parent in parents:
      node = node[parent]
    node[leaf] = jnp.asarray(values[name].T)
  return tree


def _recorded(what, step):
  return _ours({n: FOUND[f"{what}/{step}/{n}"] for n in inputs.PATHS})


@pytest.mark.parametrize(("run", "decay"), [("float64", 0.0), ("decayed", 0.1)])
def test_steps_are_the_official_ones(run, decay, monkeypatch):
  """By the recorded z, in float64: slopes, losses and weights.

  The official loss is the one at w + eps z; ours the mean of both passes.
  """
  with jax.enable_x64(True):
    recipe, _, _, hyper = cases.own(Model(), "zeroth_order")
    hyper |= {"train.perturbation_eps": jnp.float64(inputs.EPS)}
    tx = optax.chain(
      # Not of biases, which is the official rule.
      optax.add_decayed_weights(
        decay, lambda tree: jax.tree.map(lambda w: w.ndim > 1, tree)
      ),
      optax.scale(-inputs.RATE),
    )
    recipe = recipe._replace(
      make_optimizer=lambda *_: tx, make_objective=lambda _: OBJECTIVE
    )
    _, variables = nn_variables.split(Model())
    params = _ours(inputs.params())
    state = train_state.create(variables | {"params": params}, tx.init(params))
    x, y = inputs.batch()
    batch = {"inputs": x, "targets": y, "weight": jnp.ones(8, jnp.float64)}
    for step in range(inputs.NUM_STEPS):
      z = _recorded("float64/z", step)
      # Each leaf has a shape of its own.
      of_shape = {leaf.shape: leaf for leaf in jax.tree.leaves(z)}
      assert len(of_shape) == len(inputs.PATHS)
      monkeypatch.setattr(
        shifted.Direction, "draw", lambda self, shape, z=of_shape: z[shape]
      )
      (_, state), (row,) = cases.steps(recipe, state, batch, hyper)
      slope = float(FOUND[f"{run}/slope/{step}"])
      length = np.sqrt(sum((z**2).sum() for z in of_shape.values()))
      # Losses near 1.5 by the walk and by w + t z differ in 2^-52 each, over
      # eps; the model's objective may add in another order.
      atol = 16 * 2.0**-52 / inputs.EPS
      np.testing.assert_allclose(
        row["grad_norm"], abs(slope) * length, rtol=0, atol=atol * length
      )
      want = jax.tree.leaves(_recorded(f"{run}/params", step))
      for a, b in zip(jax.tree.leaves(state.params), want, strict=True):
        # |z| is below 4.
        bound = 4 * inputs.RATE * atol + 16 * 2.0**-52
        np.testing.assert_allclose(a, b, rtol=0, atol=bound)
      if run == "float64":
        official = float(FOUND[f"float64/loss/{step}"])
        # The loss at w + eps z is the mean of both and half their difference.
        np.testing.assert_allclose(
          row["loss"] + slope * inputs.EPS, official, rtol=1e-12
        )


def test_the_official_walk_leaves_errors_that_ours_does_not():
  """Of the weights' size: after +eps, -2 eps, +eps in the dtype of w."""
  for dtype, ulp in (("float32", 2.0**-23), ("float16", 2.0**-10)):
    drift = [float(FOUND[f"{dtype}/drift/{n}"]) for n in range(3)]
    assert all(ulp / 8 < each < ulp for each in drift), dtype
  assert float(FOUND["bfloat16/drift/0"]) > 2.0**-9
  # Ours: `test_weights_are_not_walked`.
