"""What every head promises, and what each is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.neighbors import NearestCentroid

from normjax import errors, models, similarity
from normjax.nn import model_roles, roles
from normjax.nn.output import Output
from normjax.similarity import heads
from tests import support

B, F, C = 6, 5, 4
X = np.asarray(support.normal(B, F))
# What is compared has three dimensions, fewer than classes.
OPTIONS = {
  "normalized_softmax": {"embedding_dim": 3, "learn_scale": True},
  "equiangular": {"embedding_dim": 3, "tau": 0.45},
  "prototype": {"embedding_dim": 3},
}


def _made(name, seed=0):
  head = heads.make(name, **OPTIONS.get(name, {}))
  return head, head.init(jax.random.key(seed), F, C)


@pytest.mark.parametrize("name", heads.names())
class TestHead:
  def test_shapes_and_dtypes(self, name):
    head, variables = _made(name)
    assert heads.make(name, **OPTIONS.get(name, {})) == head
    assert set(variables) == {"params", "stats"}
    for leaf in jax.tree.leaves(variables):
      assert leaf.dtype == jnp.float32
    for dtype in (jnp.float32, jnp.bfloat16):
      found = jax.eval_shape(head.apply, variables, jnp.zeros((B, F), dtype))
      assert (found.logits.shape, found.logits.dtype) == ((B, C), jnp.float32)
      dim = OPTIONS.get(name, {}).get("embedding_dim", F)
      assert found.embedding.shape == (B, dim)

  def test_gradients_reach_all_parameters(self, name):
    head, variables = _made(name)

    def loss(params, x):
      logits = head.apply({**variables, "params": params}, x).logits
      return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    for x in (X, np.zeros_like(X)):
      gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(
        variables["params"], x
      )
      for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
      if x is X:
        assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))

  def test_the_key_decides_on_parameters_alone(self, name):
    head, first = _made(name)
    _, other = _made(name, seed=1)
    _, again = _made(name)
    for one, two in zip(*map(jax.tree.leaves, (first, again)), strict=True):
      np.testing.assert_array_equal(one, two)
    kernel = "embedding_kernel" if name == "equiangular" else "kernel"
    assert np.any(first["params"][kernel] != other["params"][kernel])
    for key, value in first["stats"].items():
      np.testing.assert_array_equal(value, other["stats"][key])
    del head

  def test_models_have_it(self, name):
    layer = heads.layer(
      heads.make(name, **OPTIONS.get(name, {})), F, C, rngs=nnx.Rngs(0)
    )
    found = {
      path: role.kind for path, role in model_roles.of(layer).by_path.items()
    }
    assert roles.Kind.OTHER not in found.values()
    assert roles.Kind.KERNEL in found.values()
    assert isinstance(layer(jnp.asarray(X)), Output) == (name != "linear")

  def test_inputs_of_other_axes_are_refused(self, name):
    head, variables = _made(name)
    with pytest.raises(errors.UserError, match=f"{name}: inputs of shape"):
      head.apply(variables, X[0])
    with pytest.raises(errors.UserError, match="classes=0; allowed"):
      head.init(jax.random.key(0), F, 0)


def test_equiangular_is_a_transcription():
  head, variables = _made("equiangular")
  params = jax.tree.map(np.float64, variables["params"])
  e = X @ params["embedding_kernel"] + params["embedding_bias"]
  e /= np.linalg.norm(e, axis=1, keepdims=True)
  basis = similarity.equiangular_basis(C, 3, 0.45)
  found = head.apply(variables, X)
  # Cosines of three terms over 0.07.
  np.testing.assert_allclose(found.embedding, e, atol=32 * 2**-24)
  want = e @ basis.T.astype(np.float64) / 0.07
  np.testing.assert_allclose(found.logits, want, atol=15 * 32 * 2**-24)


def test_prototype_is_a_transcription():
  head, variables = _made("prototype")
  params = jax.tree.map(np.float64, variables["params"])
  e = X @ params["embedding_kernel"]
  want = -((e[:, None] - params["kernel"].T) ** 2).sum(-1)
  found = head.apply(variables, X).logits
  np.testing.assert_allclose(found, want, atol=128 * 2**-24)


def _novel():
  """Embeddings around a mean per class, and their classes."""
  generator = np.random.default_rng(0)
  means = generator.normal(size=(C + 2, F))
  labels = np.repeat(np.arange(C + 2), 6)
  noise = 0.7 * generator.normal(size=(len(labels), F))
  return (means[labels] + noise).astype(np.float32), labels


def test_imprinted_weights_are_those_of_new_classes():
  x, labels = _novel()
  head = heads.make("normalized_softmax", standardize=False)
  variables = head.init(jax.random.key(0), F, C)
  new = labels >= C
  embeddings = np.asarray(head.apply(variables, x[new]).embedding)
  grown = head.imprint(variables, embeddings, labels[new], C + 2)
  kernel, before = grown["params"]["kernel"], variables["params"]["kernel"]
  np.testing.assert_array_equal(kernel[:, :C], before)
  for c in (C, C + 1):
    unit = x[labels == c].astype(np.float64)
    mean = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).mean(0)
    want = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(kernel[:, c], want, atol=64 * 2**-24)
  assert head.apply(grown, x).logits.shape == (len(x), C + 2)
  # The caller's are as they were.
  assert variables["params"]["kernel"].shape == (F, C)


def test_imprinted_prototypes_are_the_nearest_mean_classifier():
  x, labels = _novel()
  head = heads.make("prototype")
  variables = head.init(jax.random.key(0), F, C + 2)
  variables = head.imprint(variables, x, labels, C + 2)
  queries = np.random.default_rng(1).normal(size=(50, F)).astype(np.float32)
  got = jnp.argmax(head.apply(variables, queries).logits, axis=1)
  want = NearestCentroid().fit(x, labels).predict(queries)
  np.testing.assert_array_equal(got, want)


def test_what_cannot_be_imprinted_is_refused():
  x, labels = _novel()
  head, variables = _made("equiangular")
  with pytest.raises(errors.UserError, match="'equiangular' takes no vectors"):
    head.imprint(variables, x, labels, C)
  head = heads.make("prototype")
  variables = head.init(jax.random.key(0), F, C)
  for arguments, message in (
    ((x, labels, C), "labels go from 0 to 5; with num_classes=4"),
    ((x, labels, C - 1), "classes=3; allowed: an int >= 4"),
    ((x[:, 1:], labels, C + 2), r"\(36, 4\); allowed: \(n, 5\), the dimension"),
    ((x, labels % C, C + 2), "the new classes 4, 5 have no example"),
  ):
    with pytest.raises(errors.UserError, match=message):
      head.imprint(variables, *arguments)


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("normalised_softmax", "unknown head .* Did you mean 'normalized_softmax'"),
    ("prototype(temperature=0.0)", "prototype: temperature=0.0; allowed"),
    ("normalized_softmax(temperature=-1)", "temperature=-1; allowed: .* > 0"),
    ("equiangular(temperature=0)", "equiangular: temperature=0; allowed"),
    ("equiangular(embedding_dim=0)", "embedding_dim=0; allowed: an int >= 1"),
    ("equiangular(embedding_dim=2)", "tau=None; .* Welch bound, 0.6667 of 10"),
    ("equiangular(embedding_dim=4, tau=0.3)", "tau=0.3; .* bound, 0.4082 of"),
    ("equiangular(margin=1)", "'equiangular' has no option 'margin'"),
    ("normalized_softmax(standardize=1)", "standardize=1; allowed: True"),
    ("linear(temperature=1)", "'linear' has no option 'temperature'"),
  ],
)  # fmt: skip
def test_bad_heads_are_named(spec, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("mlp", head=spec)


def test_embeddings_of_a_model():
  """Of a linear head what it reads, in batches of any size."""
  options = {"input_shape": (3,), "hidden_dim": F, "num_classes": C}
  inputs = np.asarray(support.normal(7, 3))
  linear = models.make("mlp", **options)
  found = similarity.embeddings(linear, inputs, batch_size=3)
  assert found.shape == (7, F)
  want = linear(inputs, train=False)
  # Sums of five float32 terms.
  np.testing.assert_allclose(linear.head(found), want, atol=64 * 2**-24)
  model = models.make(
    "mlp", head="normalized_softmax(embedding_dim=2)", **options
  )
  found = similarity.embeddings(model, inputs)
  want = model(inputs, train=False).features["embedding"]
  np.testing.assert_allclose(found, want, atol=64 * 2**-24)
  # A class that training did not have.
  model.head.imprint(found[:2], [C, C], C + 1)
  assert model(inputs, train=False).logits.shape == (7, C + 1)
  with pytest.raises(errors.UserError, match="no attribute 'head'"):
    similarity.embeddings(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), inputs)
  with pytest.raises(errors.UserError, match="no example"):
    similarity.embeddings(model, inputs[:0])
