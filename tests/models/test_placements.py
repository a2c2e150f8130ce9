"""What placements say of a model's parameters and their start."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import models
from normjax.nn import placement as placements
from normjax.nn import variables as nn_variables
from normjax.record import probes
from tests import support

TINY = {
  "vocab_size": 23,
  "num_layers": 3,
  "num_heads": 4,
  "num_kv_heads": 2,
  "model_dim": 64,
  "hidden_dim": 176,
}


def _paths(collection="params", **options):
  """Shapes by path, without making anything."""
  model = nnx.eval_shape(lambda: models.make("llama", **{**TINY, **options}))
  variables = nn_variables.split(model)[1]
  return {
    name: leaf.shape
    for name, leaf in probes.named_leaves(variables[collection])
  }


def _norms(block, **options):
  """Shapes of the norms' scales of one block, by slot."""
  start = f"layers/{block}/"
  return {
    name.removeprefix(start).removesuffix("_norm/scale"): shape
    for name, shape in _paths(**options).items()
    if name.startswith(start) and name.endswith("_norm/scale")
  }


def test_layer_norm_scaling_has_no_variables_and_spares_the_final_norm():
  """arXiv:2502.05795: 1 / sqrt(l) is a constant, so nothing can erase it."""
  scaled = {"placement": "layer_norm_scaling"}
  assert _paths(**scaled) == _paths()
  for collection in ("stats", "grad_stats"):
    assert _paths(collection, **scaled) == {}
  model = models.make("llama", **{**TINY, "num_layers": 1}, **scaled)
  x_btd = support.normal(2, 3, 64)
  final = model.normalize_end("final", x_btd, train=False)
  # Epsilon takes 1e-6 of a mean square above 1/4; the rest is rounding.
  np.testing.assert_allclose(jnp.mean(jnp.square(final), -1), 1, atol=1e-5)


def test_hybrid_norms():
  """arXiv:2503.04598: q, k and v by head, feed-forward as in its residual."""
  inside = {f"attention/{name}": (16,) for name in ("query", "key", "value")}
  every = {**inside, "feed_forward_input": (64,)}
  for block in range(3):
    assert _norms(block, placement="hybrid") == every
    first = {"attention_input": (64,)} if block == 0 else {}
    assert _norms(block, placement="hybrid_star") == {**every, **first}


def test_reordered_norms_of_all_heads():
  """OLMo 2: outputs, and queries and keys over the features of all heads."""
  assert _norms(1, placement="reordered") == {
    "attention/query": (4 * 16,),
    "attention/key": (2 * 16,),
    "attention_output": (64,),
    "feed_forward_output": (64,),
  }
  # What a config says counts.
  told = _norms(1, placement="reordered", query_key_norm_axes="head")
  assert told["attention/query"] == told["attention/key"] == (16,)


def test_sub_ln_norms_what_the_last_kernels_read():
  """arXiv:2210.06423, figure 2: before the output projection and W_2."""
  assert _norms(2, placement="sub_ln") == {
    "attention_input": (64,),
    "attention/inner": (4 * 16,),
    "feed_forward_input": (64,),
    "feed_forward/inner": (176,),
  }
  model = models.make("llama", **TINY, placement="sub_ln", init="placement")
  x_btd = support.normal(2, 3, 64)
  for name in ("attention", "feed_forward"):
    branch = getattr(model.layers[0], name)
    # Nothing follows the inner norm but the last kernel, so that what the
    # kernels before it are multiplied by does not show, up to epsilon.
    before = branch(x_btd)
    first = branch.value if name == "attention" else branch.up
    first.kernel[...] *= 8.0
    np.testing.assert_allclose(branch(x_btd), before, atol=1e-4)


def test_every_placement_starts_with_the_same_kernels():
  """Of a seed; else a difference of placements is one of starts, too."""

  def kernels(placement):
    norm = {"norm": "l2_norm"} if placement == "normalized_stream" else {}
    small = {"num_layers": 1, "num_heads": 1, "num_kv_heads": 1}
    model = models.make("llama", placement=placement, **norm, **small)
    params = nn_variables.split(model)[1]["params"]
    return {
      name: leaf
      for name, leaf in probes.named_leaves(params)
      if name.endswith(("kernel", "embedding"))
    }

  want = kernels("pre")
  assert len(want) == 9
  for placement in placements.TABLE.names():
    got = kernels(placement)
    assert got.keys() == want.keys()
    for name, kernel in got.items():
      np.testing.assert_array_equal(kernel, want[name], err_msg=placement)


def test_nap_has_a_norm_before_every_nonlinearity():
  """Softmax, activation, what the next block reads; tests/train/test_premise
  measures that no matrix has a scale.
  """
  assert _norms(1, placement="nap") == {
    "attention_input": (64,),
    "attention/query": (16,),
    "attention/key": (16,),
    "attention/inner": (4 * 16,),
    "attention_output": (64,),
    "feed_forward_input": (64,),
    "feed_forward/hidden": (176,),
    "feed_forward/inner": (176,),
    "feed_forward_output": (64,),
  }


@pytest.mark.parametrize(
  ("placement", "gain"),
  [
    ("deep_norm", (8 * 3) ** -0.25),
    ("sub_ln", math.sqrt(math.log(2 * 3))),
  ],
)
def test_gains_multiply_xaviers_deviation(placement, gain):
  """Of values, outputs and feed-forwards; not of queries and keys.

  arXiv:2203.00555 and 2210.06423, both figure 2. Xavier's is
  sqrt(2 / (inputs + outputs)), of the matrix with its heads merged.
  """
  model = models.make("llama", **TINY, placement=placement, init="placement")
  block = model.layers[1]
  attention, feed_forward = block.attention, block.feed_forward
  for layer, inputs, outputs, factor in (
    (attention.query, 64, 64, 1.0),
    (attention.key, 64, 32, 1.0),
    (attention.value, 64, 32, gain),
    (attention.out, 64, 64, gain),
    (feed_forward.gate, 64, 176, gain),
    (feed_forward.up, 64, 176, gain),
    (feed_forward.down, 176, 64, gain),
  ):
    kernel = layer.kernel[...]
    assert kernel.size == inputs * outputs
    # The deviation of n normal draws is itself off by 1 / sqrt(2 n); five of
    # those are never seen.
    np.testing.assert_allclose(
      np.std(kernel),
      factor * math.sqrt(2 / (inputs + outputs)),
      rtol=5 / math.sqrt(2 * kernel.size),
    )
