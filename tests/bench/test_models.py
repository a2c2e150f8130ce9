"""`normjax bench models` at tiny sizes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import cli
from normjax.bench import model_families
from normjax.bench.model_families import FAMILIES, MODELS
from tests.bench import pretender

LLAMA, RESNET = FAMILIES["llama"], FAMILIES["cifar_resnet"]


@pytest.mark.slow
def test_models_are_measured(tmp_path, capsys):
  flags = ["--model=tiny", "--batch_size=2", "--length=8", "--repeats=3"]
  code = cli.main(["bench", "models", "--nopeers", *flags, f"--out={tmp_path}"])
  assert code == 0, capsys.readouterr().err
  results = json.loads((tmp_path / "models.json").read_text())["results"]
  by_name = {result["name"]: result for result in results}
  assert set(by_name) == {*LLAMA.variants, "scanned, 2 layers"}
  unrolled = by_name["unrolled"]
  assert [peer["name"] for peer in unrolled["peers"]] == [
    "flax.linen, unrolled",
    "flax.linen, scanned",
  ]
  assert all(len(peer["ratios"]) == 3 for peer in unrolled["peers"])


def sizes(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", LLAMA.flax)
def test_the_llama_of_flax_has_our_shape(name):
  """As many parameters, and logits of unit-free scale: near uniform."""
  model = MODELS["tiny"]
  tokens = jnp.arange(8).reshape(1, 8)
  init, apply = model_families.flax(LLAMA.flax[name](model.sizes), tokens)
  own, _ = model_families.ours(LLAMA, model.sizes, {})
  params, stats = init()
  assert sizes(params) == sizes(jax.eval_shape(own)[0])
  logits, _ = apply(params, stats, tokens)
  assert logits.shape == (1, 8, model.sizes["vocab_size"])
  # Normalised rows times kernels of std 0.02: std 0.02 sqrt(16) = 0.08.
  assert 0.04 < np.std(logits) < 0.16


def as_linen(tree):
  """Our tree by the names of `linen_resnet`."""
  layers = {
    f"layers_{i}": {
      f"conv_{int(j) + 1}": conv for j, conv in layer["convs"].items()
    }
    for i, layer in tree["layers"].items()
  }
  rest = {name: value for name, value in tree.items() if name != "layers"}

  def unwrap(node):
    if set(node) == {"norm"} and isinstance(node["norm"], dict):
      return node["norm"]
    return {
      name: unwrap(value) if isinstance(value, dict) else value
      for name, value in node.items()
    }

  return unwrap({**rest, **layers})


def test_the_resnet_of_flax_is_ours():
  """The same logits and gradients from the same weights."""
  model = MODELS["resnet_tiny"]
  images, _ = RESNET.batch(model.sizes, {"batch_size": 4})
  init, apply = model_families.ours(RESNET, model.sizes, {})
  params, stats = jax.jit(init)()
  flax = RESNET.flax["flax.linen"](model.sizes)
  peer_init, peer_apply = model_families.flax(flax, images[:1])
  expected = jax.eval_shape(peer_init)[0]
  assert sizes(params) == sizes(expected)
  assert jax.tree.structure(as_linen(params)) == jax.tree.structure(expected)
  # Means and unbiased variances of ours; the peer starts alike.
  zeros = jax.tree.map(jnp.zeros_like, as_linen(stats))

  def passes(logits, params):
    y, pull = jax.vjp(logits, params)
    cotangent = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    return y, pull(cotangent)[0]

  y, gradients = jax.jit(
    lambda params: passes(lambda p: apply(p, stats, images)[0], params)
  )(params)
  peer_y, peer_gradients = jax.jit(
    lambda params: passes(lambda p: peer_apply(p, zeros, images)[0], params)
  )(as_linen(params))
  # Seven norms, each of which divides sums of 27 to 144 products by their
  # spread of about one; flax's variances in one pass. Twice that backward.
  np.testing.assert_allclose(y, peer_y, rtol=0, atol=7 * 144 * 2**-24)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=0, atol=14 * 144 * 2**-24 * max(1, np.abs(b).max())
    ),
    as_linen(gradients),
    peer_gradients,
  )


@pytest.mark.slow
def test_resnets_are_measured(tmp_path, capsys):
  flags = ["--model=resnet_tiny", "--repeats=1", "--budget_s=1"]
  python = pretender.write(tmp_path)
  peers = f"--peer_python={python}"
  code = cli.main(["bench", "models", *flags, peers, f"--out={tmp_path}"])
  assert code == 0, capsys.readouterr().err
  (result,) = json.loads((tmp_path / "models.json").read_text())["results"]
  names = [peer["name"] for peer in result["peers"]]
  assert names == ["flax.linen", *RESNET.torch_names]
