"""Models as users write them: what holds norms, and how they are called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from flax.nnx import bridge

from normjax import adapt, errors, norms
from normjax.nn.norm_layer import NormLayer
from normjax.similarity import heads
from tests.support import normal

X = 2 * normal(6, 4, 4, 3, seed=1) + 1


def batch_norm(**options):
  return nnx.BatchNorm(3, rngs=nnx.Rngs(0), **options)


class Held(nnx.Module):
  """A norm in a holder, called once per entry of `scales`, and a head."""

  def __init__(self, held, take=lambda held: held, head=None, scales=(1,)):
    self.held, self.take, self.scales = held, take, scales
    self.head = head or nnx.Linear(3, 5, rngs=nnx.Rngs(0))

  def __call__(self, x):
    y = sum(self.take(self.held)(scale * x) for scale in self.scales)
    return self.head(jnp.mean(y**3, axis=(1, 2)))


def stepped(name, model, x=X, **options):
  adapter = adapt.make(name, model, **options)
  return jax.jit(adapter.step)(adapter.init(), x)


@pytest.mark.parametrize(
  ("hold", "take"),
  [
    (lambda norm: nnx.data([norm]), lambda held: held[0]),
    (lambda norm: nnx.data(({"k": norm},)), lambda held: held[0]["k"]),
    (lambda norm: nnx.Dict(k=norm), lambda held: held["k"]),
    (lambda norm: nnx.List([norm]), lambda held: held[0]),
    (lambda norm: nnx.Sequential(norm, nnx.relu), lambda held: held),
  ],
)
def test_norms_adapt_whatever_holds_them(hold, take):
  model = Held(hold(batch_norm()), take)
  model.train()
  expected = nnx.clone(model)(X)
  np.testing.assert_allclose(stepped("batch", model)[0], expected, rtol=1e-5)


def test_a_model_that_is_a_norm_adapts():
  y, _ = stepped("batch", batch_norm())
  np.testing.assert_allclose(jnp.mean(y, axis=(0, 1, 2)), 0, atol=1e-6)


def test_adabn_pools_what_passes_a_norm_in_several_calls():
  model = Held(batch_norm(), scales=(1, 3))
  state = adapt.make("adabn", model).fit([X[:4], X[4:]])
  every = np.concatenate([np.float64(X), 3 * np.float64(X)])
  found = state.variables["stats"]["held"]
  assert set(found) == {"mean", "var"}
  np.testing.assert_allclose(found["mean"], every.mean((0, 1, 2)), rtol=2e-6)
  np.testing.assert_allclose(found["var"], every.var((0, 1, 2)), rtol=2e-6)


def test_adabn_leaves_out_what_is_not_finite():
  """A value beyond float32 in a batch: that batch says nothing."""
  model = Held(batch_norm())
  bad = X[4:].at[0, 0, 0, 0].set(jnp.inf)
  state = adapt.make("adabn", model).fit([X[:4], bad])
  every = [np.float64(X[:4])[..., 0], np.float64(X)[..., 1]]
  for channel, values in enumerate(every):
    mean = state.variables["stats"]["held"]["mean"][channel]
    np.testing.assert_allclose(mean, values.mean(), rtol=2e-6)


def test_osuda_keeps_the_source_through_several_calls():
  model = Held(batch_norm(), scales=(1, 3))
  source, _ = stepped("source", model)
  found, _ = stepped("osuda", model, source_weight=1.0, decay=0.0)
  np.testing.assert_allclose(found, source, rtol=1e-5)


@pytest.mark.parametrize("missing", ["use_scale", "use_bias"])
def test_a_norm_without_a_scale_or_a_bias_adapts(missing):
  model = Held(batch_norm(**{missing: False}))
  model.train()
  expected = nnx.clone(model)(X)
  logits, state = stepped("tent", model)
  np.testing.assert_allclose(logits, expected, rtol=1e-5)
  left = {"scale", "bias"} - {missing.removeprefix("use_")}
  assert set(state.variables["params"]["held"]) == left


def test_source_takes_a_norm_over_another_axis():
  model = Held(batch_norm(axis=3))
  model.eval()
  np.testing.assert_array_equal(stepped("source", model)[0], model(X))
  with pytest.raises(errors.UserError, match=r"axis=3; allowed: axis=-1"):
    adapt.make("tent", model)


def test_a_batch_is_not_cut_into_ghosts():
  def made(**options):
    return Held(NormLayer(norms.make("batch_norm", **options), (3,)))

  expected, _ = stepped("batch", made())
  found, _ = stepped("batch", made(virtual_batch_size=4))
  np.testing.assert_array_equal(found, expected)


def test_a_linen_module_is_named():
  class Net(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
      return linen.BatchNorm(use_running_average=not train)(x)

  model = bridge.ToNNX(Net(), rngs=nnx.Rngs(0))
  bridge.lazy_init(model, X)
  assert stepped("source", model)[0].shape == X.shape
  for name in ("batch", "tent", "adabn"):
    with pytest.raises(errors.UserError, match="norms of Net, a Linen module"):
      adapt.make(name, model)


@pytest.mark.parametrize(
  "head",
  ["normalized_softmax(embedding_dim=4)", "equiangular(embedding_dim=7)"],
)
def test_classes_are_those_of_the_logits(head):
  """An embedding of another dimension is not their number."""
  layer = heads.layer(head, 3, 5, rngs=nnx.Rngs(0))
  state = jax.eval_shape(
    lambda: stepped("eata", Held(batch_norm(), head=layer))[1]
  )
  assert state.own.probabilities.shape == (5,)


def test_another_number_of_logits_is_an_error():
  class Nested(nnx.Module):
    def __init__(self):
      rngs = nnx.Rngs(0)
      self.first = nnx.Linear(3, 8, rngs=rngs)
      self.second = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
      return self.second(self.first(x))

  with pytest.raises(errors.UserError, match=r"logits \(6, 5\).* 8 classes"):
    jax.eval_shape(lambda: stepped("eata", Held(batch_norm(), head=Nested())))


def test_entropies_of_a_bfloat16_model_are_float32():
  head = nnx.Linear(3, 5, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
  model = Held(batch_norm(), head=head)
  for name in ("tent", "lame"):
    logits, _ = jax.eval_shape(lambda name=name: stepped(name, model))
    assert logits.dtype == jnp.float32
