"""What computed tables share: small networks, and streams of corruptions."""

import jax
import numpy as np
import pytest
from flax import nnx

from normjax import adapt
from normjax.adapt import loop
from normjax.adapt.protocol import Examples, Protocol
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.reproduce import corrupted_digits
from normjax.reproduce.small_conv import SmallConv


class Net(nnx.Module):
  """Batch norm of pixels and a head."""

  def __init__(self, seed):
    self.norm = nnx.BatchNorm(1, rngs=nnx.Rngs(seed))
    self.head = nnx.Linear(4, 3, rngs=nnx.Rngs(seed))

  def __call__(self, x):
    return self.head(self.norm(x).reshape(len(x), 4))


def test_accuracies_are_of_each_network_on_its_own_stream(monkeypatch):
  generator = np.random.default_rng(0)
  images = {
    kind: Examples(
      generator.normal(size=(12, 2, 2, 1)).astype(np.float32),
      generator.integers(0, 3, 12),
    )
    for kind in ("fog_3", "snow_3")
  }
  monkeypatch.setattr(corrupted_digits, "_images", images.get)
  networks = {seed: Net(seed) for seed in (3, 5)}
  found = corrupted_digits.accuracies(
    "alpha_bn(test_weight=0.5)", networks, Protocol(batch_size=4), images
  )
  for place, (seed, network) in enumerate(networks.items()):
    means = loop.run(
      adapt.make("alpha_bn", network, test_weight=0.5),
      images,
      Protocol(batch_size=4, seed=seed),
    )[0].means()
    for kind in images:
      assert found[kind][place] == 100 * means[f"accuracy/{kind}"]
    assert found[corrupted_digits.MEAN][place] == 100 * means["accuracy"]


def test_a_network_is_drawn_and_trained_by_its_seed(monkeypatch):
  """Without a step of training."""
  asked = []

  def start_step(text):
    asked.append(text)
    return start.StartStep(lambda *held: held, changes_structure=False)

  monkeypatch.setattr(corrupted_digits.convert, "start_step", start_step)
  first, other = map(corrupted_digits.network, (7, 8))
  assert [text.partition("seed=")[2] for text in asked] == ["7)", "8)"]
  images = jax.ShapeDtypeStruct((2, 28, 28, 1), np.float32)
  found = jax.eval_shape(lambda x: first(x, train=False), images)
  assert found.shape == (2, 10)
  drawn, others = (nn_variables.split(n)[1]["params"] for n in (first, other))
  assert not np.array_equal(drawn["head"]["kernel"], others["head"]["kernel"])


def test_a_small_network_halves_the_sides_and_hands_the_mode_on():
  model = SmallConv(9, (8, 8, 1), widths=(2, 3, 4), rngs=nnx.Rngs(0))
  images = np.random.default_rng(0).normal(2, 3, (4, 8, 8, 1))
  images = images.astype(np.float32)
  assert [n.mean.shape for n in model.norms] == [(2,), (3,), (4,)]
  before = nn_variables.split(model)[1]["stats"]
  assert model(images, train=False).shape == (4, 9)
  jax.tree.map(
    np.testing.assert_array_equal, nn_variables.split(model)[1]["stats"], before
  )
  x = model.convs[0](images)
  model(images, train=True)
  np.testing.assert_allclose(
    model.norms[0].mean[...], 0.1 * x.mean((0, 1, 2)), rtol=1e-4, atol=1e-5
  )
  for norm in model.norms:
    assert np.abs(norm.mean[...]).min() > 0
  for stride, side, conv in zip((1, 2, 2), (8, 8, 4), model.convs, strict=True):
    given = jax.ShapeDtypeStruct((1, side, side, conv.in_features), np.float32)
    assert jax.eval_shape(conv, given).shape[1] == side // stride


@pytest.mark.parametrize("norm", ["adab2n", {"name": "cn", "num_groups": 2}])
def test_a_small_network_takes_any_norm_of_images(norm):
  model = SmallConv(4, (8, 8, 1), widths=(2, 4, 4), norm=norm, rngs=nnx.Rngs(0))
  shape = jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32)
  found = jax.eval_shape(lambda x: model(x, train=False), shape)
  assert found.shape == (2, 4)
