"""How the axes of leaves are read, in this project's trees and in others'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, optim
from normjax.optim import dims, groups


def nested(shapes):
  """{"a/b": (2, 3)} to a tree of shapes and dtypes."""
  tree = {}
  for path, shape in shapes.items():
    *parents, last = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = jax.ShapeDtypeStruct(shape, jnp.float32)
  return tree


def read(shapes, preset=None):
  """Path to "in>out", "in>out?" where assumed, or None."""
  tree = nested(shapes)

  def show(entry):
    if entry is None:
      return None
    inputs, outputs = ("".join(map(str, axes)) for axes in dims.axes(entry))
    return f"{inputs}>{outputs}" + "?" * entry.assumed

  entries = map(show, dims.resolve(preset, tree))
  return dict(zip((p for p, _ in groups.leaves(tree)), entries, strict=True))


# Layers, model, heads, head, hidden, experts, vocabulary.
L, D, H, K, F, E, V = 3, 16, 2, 5, 24, 6, 50
# What other projects' trees hold: path, shape, the axes in > out.
TREES = {
  "experts": [
    ("layers/moe/experts/wi/kernel", (L, E, D, F), "2>3"),
    ("layers/moe/experts/wo/kernel", (L, E, F, D), "2>3"),
    ("experts/wo", (E, F, D), "1>2"),
    ("experts/bias", (E, F), None),
    ("MoeBlock_0/wo", (E, F, D), "1>2"),
    ("moe/router/kernel", (D, E), "0>1"),
    ("moe_layers/self_attention/query/kernel", (D, H, K), "0>12"),
    ("moe_layers/self_attention/out/kernel", (H, K, D), "01>2"),
    ("attention_block/moe/out/kernel", (E, F, D), "1>2"),
  ],
  "heads": [
    ("0/attention/query/kernel", (D, H, K), "0>12"),
    ("0/attention/key/kernel", (D, 1, K), "0>12"),
    ("0/attention/out/kernel", (H, K, D), "01>2"),
    ("0/mlp/out/kernel", (F, D), "0>1"),
    ("0/norm/scale", (D,), None),
  ],
  "a scan": [
    ("layers/q_proj/kernel", (L, D, H * K), "1>2"),
    ("layers/k_proj/kernel", (L, D, K), "1>2"),
    ("layers/o_proj/kernel", (L, H * K, D), "1>2"),
    ("layers/mlp/in/kernel", (L, D, F), "1>2"),
    ("layers/mlp/out/kernel", (L, F, D), "1>2"),
  ],
  "a scan that norms show": [
    ("layers/attention/q_proj/kernel", (L, D, H * K), "1>2"),
    ("layers/attention/q_norm/scale", (L, K), None),
    ("layers/mlp/out/kernel", (L, F, D), "1>2"),
    ("layers/Conv_0/kernel", (L, 4, D, F), "12>3"),
    ("layers/norm/scale", (L, D), None),
    ("norm/scale", (D,), None),
  ],
  "a scan that biases show": [
    ("layers/mlp/out/kernel", (L, F, D), "1>2"),
    ("layers/mlp/out/bias", (L, D), None),
    ("layers/query/kernel", (L, D, H * K), "1>2"),
    ("layers/query/bias", (L, H * K), None),
  ],
  "a scan that all leaves show": [
    ("layers/attention/query/kernel", (L, D, H * K), "1>2"),
    ("layers/mlp/out/kernel", (L, F, D), "1>2"),
    ("layers/gate/kernel", (L, D, F), "1>2"),
    ("head/kernel", (D, V), None),
  ],
  "a scan of scans": [
    ("stages/layers/query/kernel", (2, L, D, H * K), "2>3"),
    ("stages/layers/out/kernel", (2, L, H, K, D), "23>4"),
    ("stages/layers/up/kernel", (2, L, D, F), "2>3"),
    ("stages/layers/norm/scale", (2, L, D), None),
  ],
  "square heads": [
    ("0/attention/query/kernel", (8, 8, 8), "0>12"),
    ("0/attention/out/kernel", (8, 8, 8), "01>2"),
    ("0/norm/scale", (8,), None),
  ],
  "a square scan": [
    ("layers/attention/query/kernel", (8, 8, 8), "1>2"),
    ("layers/attention/out/kernel", (8, 8, 8), "1>2"),
    ("layers/norm/scale", (8, 8), None),
  ],
  "undecided": [
    ("layers/q_proj/kernel", (L, D, H * K), "0>12?"),
    ("layers/mlp/out/kernel", (L, F, D), "01>2?"),
    ("layers/filter/kernel", (3, 3, D, F), "012>3?"),
    ("layers/gate/kernel", (D, F), "0>1"),
    ("norm/scale", (D,), None),
  ],
  "equal either way": [
    ("attention/query/kernel", (1, 1, 1), "0>12"),
    ("attention/out/kernel", (1, 1, 1), "01>2"),
  ],
  # Their scan's axis is the second.
  "T5X": [
    ("decoder/layers/self_attention/query/kernel", (D, L, H * K), "0>2"),
    ("decoder/layers/self_attention/key/kernel", (D, L, K), "0>2"),
    ("decoder/layers/self_attention/out/kernel", (H * K, L, D), "0>2"),
    ("decoder/layers/mlp/wi_0/kernel", (D, L, F), "0>2"),
    ("decoder/layers/mlp/wo/kernel", (F, L, D), "0>2"),
    ("decoder/layers/pre_mlp_layer_norm/scale", (D, L), None),
    ("decoder/relpos_bias/rel_embedding", (H, 32), None),
    ("decoder/logits_dense/kernel", (D, V), None),
    ("token_embedder/embedding", (V, D), None),
  ],
  "MaxText": [
    ("decoder/layers/self_attention/query/kernel", (D, L, H, K), "0>23"),
    ("decoder/layers/self_attention/out/kernel", (H, L, K, D), "02>3"),
    ("decoder/layers/self_attention/query_norm/scale", (K, L), None),
    ("decoder/layers/MoeBlock_0/wi_0", (E, L, D, F), "2>3"),
    ("decoder/layers/MoeBlock_0/gate/kernel", (D, L, E), "0>2"),
    ("decoder/layers/mlp/wo/kernel", (F, L, D), "0>2"),
    ("decoder/layers/pre_self_attention_norm/scale", (D, L), None),
    ("decoder/decoder_norm/scale", (D,), None),
    ("decoder/logitdense/kernel", (D, V), None),
  ],
  "latent attention": [
    ("layers_0/self_attention/wq_a/kernel", (D, 6), "0>1"),
    ("layers_0/self_attention/wq_b/kernel", (6, H, K), "0>12"),
    ("layers_0/self_attention/wkv_b/kernel", (5, H, K), "0>12"),
    ("layers_0/self_attention/out/kernel", (H, K, D), "01>2"),
    ("layers_0/pre_self_attention_norm/scale", (D,), None),
  ],
  "big_vision": [
    ("embedding/kernel", (4, 4, 3, D), None),
    ("pos_embedding", (1, 9, D), None),
    ("cls", (1, 1, D), None),
    ("Transformer/encoderblock/Mhdpa_0/query/kernel", (L, D, H, K), "1>23"),
    ("Transformer/encoderblock/Mhdpa_0/out/kernel", (L, H, K, D), "12>3"),
    ("Transformer/encoderblock/Mlp_0/Dense_0/kernel", (L, D, F), "1>2"),
    ("Transformer/encoderblock/LayerNorm_0/scale", (L, D), None),
    ("MAPHead_0/probe", (1, 1, D), None),
    ("MAPHead_0/Mlp_0/Dense_0/kernel", (D, F), "0>1"),
    ("pre_logits/kernel", (D, D), "0>1"),
    ("head/kernel", (D, V), None),
  ],
  "Gemma": [
    ("layer_0/attn/q_einsum/w", (H, D, K), "1>02"),
    ("layer_0/attn/kv_einsum/w", (2, 1, D, K), "2>13"),
    ("layer_0/attn/attn_vec_einsum/w", (H, K, D), "01>2"),
    ("layer_0/mlp/gating_einsum", (2, D, F), "1>2"),
    ("layer_0/mlp/linear", (F, D), "0>1"),
    ("layer_0/pre_attention_norm/scale", (D,), None),
    ("embedder/input_embedding", (V, D), None),
  ],
  "scanned Mamba": [
    ("layers/A_log", (L, D, 8), None),
    ("layers/D", (L, D), None),
    ("layers/conv1d/kernel", (L, 4, 1, D), "12>3"),
    ("layers/conv1d/bias", (L, D), None),
    ("layers/out_proj/kernel", (L, F, D), "1>2"),
    ("layers/dt_bias", (L, D), None),
    ("layers/norm/scale", (L, D), None),
  ],
  "Haiku": [
    ("linear/w", (L, D, F), "1>2"),
    ("linear/b", (L, F), None),
    ("conv2_d/w", (3, 3, D, F), "012>3"),
    ("conv1_d/w", (3, D, F), "01>2"),
    ("batch_norm/offset", (1, 1, 1, F), None),
    ("embed/embeddings", (V, D), None),
  ],
  "Linen's own names": [
    ("Conv_0/kernel", (4, D, F), "01>2"),
    ("Conv_1/kernel", (3, 3, D, F), "012>3"),
    ("Conv_2/kernel", (3, 3, 3, D, F), "0123>4"),
    ("Conv_2/bias", (F,), None),
    ("DenseGeneral_0/kernel", (D, H, K), "0>12"),
    ("DenseGeneral_0/bias", (H, K), None),
    ("DenseGeneral_1/kernel", (H, K, D), "01>2"),
    ("DenseGeneral_1/bias", (D,), None),
    ("block/proj/kernel", (1, 1, D, F), "012>3"),
    ("block/BatchNorm_0/scale", (F,), None),
  ],
  # Each leaf in a box without names, as Haliax has them.
  "boxed": [
    ("q_proj/kernel/0", (D, F), "0>1"),
    ("q_proj/bias/0", (H, K), None),
    ("ln_1/weight/0", (L, D), None),
  ],
}
IN_TORCH = [
  ("layers/0/weight", (F, D), "1>0"),
  ("layers/0/bias", (F,), None),
  ("stacked/weight", (L, F, D), "2>1"),
  ("query_proj/weight", (L, F, D), "2>1"),
  ("experts/w1/weight", (E, F, D), "2>1"),
  ("conv/weight", (F, D, 3), "12>0"),
  ("encoder/0/weight", (F, D, 3), "12>0"),
  ("encoder/0/bias", (F, 1), None),
  ("encoder/1/weight", (F, D, 3, 3), "123>0"),
  ("encoder/1/bias", (F, 1, 1), None),
  ("norm1/weight", (L, D), None),
  ("embed/weight", (V, D), None),
  ("lm_head/weight", (V, D), None),
]


@pytest.mark.parametrize("name", TREES)
def test_readings(name):
  shapes = {path: shape for path, shape, _ in TREES[name]}
  assert read(shapes) == {path: axes for path, _, axes in TREES[name]}


def test_readings_in_torch():
  shapes = {path: shape for path, shape, _ in IN_TORCH}
  expected = {path: axes for path, _, axes in IN_TORCH}
  assert read(shapes, optim.torch_dims) == expected
  # Where units count, embeddings and heads have them.
  entries = dims.resolve(optim.torch_dims, nested(shapes), dims.channel_dims)
  paths = [path for path, _ in groups.leaves(nested(shapes))]
  units = dict(zip(paths, entries, strict=True))
  for path in ("embed/weight", "lm_head/weight"):
    assert units[path] == dims.MatrixDims((1,), (0,))


def test_the_same_names_decay():
  """Vectors of scanned layers have two axes."""
  params = nested(
    {
      path: shape
      for leaves in TREES.values()
      for path, shape, _ in leaves
      if "/" in path
    }
  )
  decays = dict(groups.leaves(optim.decay_mask(params)))
  for path in ("layers/D", "linear/b", "layers/A_log", "ln_1/weight/0"):
    assert not decays[path]
  for path in ("linear/w", "experts/wo", "MAPHead_0/Mlp_0/Dense_0/kernel"):
    assert decays[path]


@pytest.mark.parametrize("preset", [None, optim.channel_dims])
def test_two_readings_that_fit(preset):
  shapes = {
    "layers/query/kernel": (8, 8, 8),
    "layers/out/kernel": (8, 8, 8),
  }
  with pytest.raises(
    errors.UserError,
    match=r"'layers/out/kernel' of shape \(8, 8, 8\).*\(0, 1\).*scanned.*dims",
  ):
    read(shapes, preset)


def test_a_norm_of_other_layers_says_nothing():
  """The convolution is beside the scan, and as wide as it has layers."""
  found = read(
    {
      "Conv_0/kernel": (L, D, F),
      "Conv_0/bias": (F,),
      "stem/kernel": (L, L, 3, D),
      "layers/norm/scale": (L, D),
      "layers/up/kernel": (L, D, F),
    }
  )
  assert found["Conv_0/kernel"] == "01>2"
  assert found["stem/kernel"] == "012>3"
  assert found["layers/up/kernel"] == "1>2"


@pytest.mark.parametrize("kernel", [(4, 3), (5, 3, 2, 2), (5, 3, 2)])
def test_views_of_torch_layouts(kernel):
  """The same matrix as in Flax, its rows in another order."""
  torch = np.random.default_rng(0).normal(size=kernel)
  flax = np.moveaxis(torch, (1, 0), (-2, -1))
  name = "conv" if len(kernel) > 2 else "linear"

  def view(leaf, preset):
    (entry,) = dims.resolve(preset, {name: {"weight": leaf}})
    return dims.to_matrices(leaf, entry)[0]

  one, other = view(torch, optim.torch_dims), view(flax, None)
  assert one.shape == other.shape
  order = [np.lexsort(matrix.T) for matrix in (one, other)]
  np.testing.assert_array_equal(one[order[0]], other[order[1]])
