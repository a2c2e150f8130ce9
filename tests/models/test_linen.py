"""Linen modules as models, beside a plain loop of Linen and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from normjax import models
from normjax.nn import model_roles, roles
from normjax.nn import variables as nn_variables
from normjax.nn.linen import LinenNorm
from normjax.train import step
from tests import support
from tests.train import own_models, plain_step

X = support.normal(16, 4)
Y = jnp.arange(16) % 3


class Many(linen.Module):
  """One of each layer that has a role."""

  @linen.compact
  def __call__(self, x_bhwc, deterministic):
    table = linen.Embed(7, 8)
    x = linen.Conv(8, (3, 3))(x_bhwc)
    x = linen.ConvTranspose(8, (3, 3))(x)
    x = linen.GroupNorm(4)(x).reshape(len(x), -1, 8)
    x += table(jnp.arange(x.shape[1]) % 7)
    x = LinenNorm("dyt")(x, train=not deterministic)
    x = linen.MultiHeadDotProductAttention(2, dropout_rate=0.5)(
      x, deterministic=deterministic
    )
    return linen.Dense(3)(x.mean(1))


def test_the_types_of_linens_layers_say_the_roles():
  images = jnp.zeros((2, 4, 4, 3))
  model = nnx.eval_shape(lambda: models.from_linen(Many(), images))
  found = {path: str(role) for path, role in model_roles.of(model).params()}
  attention = "MultiHeadDotProductAttention_0"
  assert found == {
    "Embed_0/embedding": "embedding",
    "Conv_0/kernel": "input kernel",
    "Conv_0/bias": "input bias",
    "ConvTranspose_0/kernel": "kernel",
    "ConvTranspose_0/bias": "bias",
    "GroupNorm_0/scale": "norm scale (GroupNorm)",
    "GroupNorm_0/bias": "norm bias (GroupNorm)",
    "LinenNorm_0/alpha": "norm parameter (dyt)",
    "LinenNorm_0/scale": "norm scale (dyt)",
    "LinenNorm_0/bias": "norm bias (dyt)",
    **{
      f"{attention}/{name}/{leaf}": leaf
      for name in ("query", "key", "value", "out")
      for leaf in ("kernel", "bias")
    },
    "Dense_0/kernel": "output kernel",
    "Dense_0/bias": "output bias",
  }
  dims = dict(model_roles.of(model).by_path)
  assert dims[f"{attention}/query/kernel"].dims.output_axis == (-2, -1)
  assert dims[f"{attention}/out/kernel"].dims.reduction_axis == (-3, -2)


def test_the_user_may_say_the_ends():
  ends = roles.Ends("Dense_1", "Dense_0")
  model = nnx.eval_shape(
    lambda: models.from_linen(own_models.Linen(3), X, end_layers=ends)
  )
  assert str(model_roles.of(model)["Dense_0/kernel"]) == "output kernel"


def test_train_and_eval_and_the_call_say_the_mode():
  model = models.from_linen(own_models.Linen(3), X)
  key = jax.random.key(1)
  training = model(X, key=key)
  np.testing.assert_array_equal(training, model(X, train=True, key=key))
  model.eval()
  evaluated = model(X)
  assert np.any(evaluated != training)
  np.testing.assert_array_equal(evaluated, model(X, train=False))


@pytest.mark.parametrize("norm", ["", "power_norm"])
def test_it_trains_as_in_a_loop_of_linen_and_optax(norm):
  """The same masks too: to the rounding of a mean in another order."""
  module = own_models.Linen(3)
  if norm:
    module = own_models.Linen(3, norm={"name": norm, "warmup_steps": 1})
  model = models.from_linen(module, X, rngs=nnx.Rngs(0))
  variables = nn_variables.split(model)[1]
  tx = optax.adamw(0.05, weight_decay=0.1)
  ours, train_step, hyper = plain_step.around(model, tx)
  batch = {"inputs": X, "targets": Y, "weight": jnp.ones(len(X))}

  grads = variables["grad_stats"]
  params, stats = variables["params"], variables["stats"]
  state = tx.init(params)

  @jax.jit
  def linen_step(params, grads, stats, state, key):
    def loss(params, grads):
      logits, updated = module.apply(
        {
          "params": params,
          "batch_stats": stats,
          "_overwrite_with_gradient": grads,
        },
        X,
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, Y)
      return losses.mean(), updated["batch_stats"]

    (gradients, grads), stats = jax.grad(loss, (0, 1), has_aux=True)(
      params, grads
    )
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), grads, stats, state

  for index in range(3):
    ours = train_step(ours, batch)
    key = jax.random.fold_in(step.rng.fold(hyper["seed"], "dropout", index), 0)
    params, grads, stats, state = linen_step(params, grads, stats, state, key)
  # A mean of 16 is 16 products in another order; Adam divides by roots of
  # small moments.
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6),
    (ours.params, ours.grad_stats, ours.stats),
    (params, grads, stats),
  )
