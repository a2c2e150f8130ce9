"""Routing by path and shape; views as matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from normjax import errors, optim
from normjax.optim import dims, groups

# path, shape, reduction axes, output axes of the default routing.
DEFAULT = [
  ("layers/0/mlp/up/kernel", (4, 6), (0,), (1,)),
  ("attention/query/kernel", (4, 2, 3), (0,), (1, 2)),
  ("attention/key/kernel", (4, 6), (0,), (1,)),
  ("attention/v_proj/kernel", (4, 2, 3), (0,), (1, 2)),
  ("attention/out/kernel", (2, 3, 4), (0, 1), (2,)),
  ("attention/o_proj/kernel", (6, 4), (0,), (1,)),
  ("attention/qkv/kernel", (4, 3, 2, 5), (0,), (2, 3)),
  ("attention/qkv/kernel", (4, 18), (0,), (1,)),
  ("block/conv1/kernel", (3, 3, 4, 6), (0, 1, 2), (3,)),
  ("anything", (3, 3, 4, 6), (0, 1, 2), (3,)),
  ("block/conv1d/kernel", (3, 4, 6), (0, 1), (2,)),
  # Stacked layers.
  ("layers/mlp/kernel", (5, 4, 6), (1,), (2,)),
  ("layers/query/kernel", (5, 4, 2, 3), (1,), (2, 3)),
  ("layers/out/kernel", (5, 2, 3, 4), (1, 2), (3,)),
  ("layers/conv/kernel", (5, 3, 3, 4, 6), (1, 2, 3), (4,)),
  ("", (4, 6), (0,), (1,)),
]
FALLBACK = [
  ("embed/embedding", (9, 4)),
  ("token_embed/embedding", (9, 4)),
  ("transformer/wte/kernel", (9, 4)),
  ("pos_embedding", (1, 9, 4)),
  ("patch_embedding/kernel", (4, 4, 3, 8)),
  ("head/kernel", (4, 9)),
  ("lm_head/kernel", (4, 9)),
  ("logits/kernel", (4, 9)),
  ("classifier/kernel", (4, 9)),
  ("head/bias", (9,)),
  ("attention/query/bias", (2, 3)),
  ("norm/scale", (4,)),
  ("norm/scale", (2, 4)),
  ("norm/alpha", (1,)),
  ("mlp/up/bias", (6,)),
  ("cls_token", (1, 1, 4)),
  ("temperature", ()),
]


def tree_of(path, leaf):
  for key in reversed([key for key in path.split("/") if key]):
    leaf = {key: leaf}
  return leaf


@pytest.mark.parametrize(("path", "shape", "reduction", "output"), DEFAULT)
def test_matrices(path, shape, reduction, output):
  tree = tree_of(path, jnp.ones(shape))
  (entry,) = dims.resolve(None, tree)
  assert entry == dims.MatrixDims(reduction, output)


@pytest.mark.parametrize(("path", "shape"), FALLBACK)
def test_fallback(path, shape):
  assert dims.resolve(None, tree_of(path, jnp.ones(shape))) == [None]


def test_channels():
  params = {
    "embed": {"embedding": jnp.ones((9, 4))},
    "head": {"kernel": jnp.ones((4, 9)), "bias": jnp.ones(9)},
    "query": {"bias": jnp.ones((2, 3))},
  }
  assert optim.channel_dims(params) == {
    "embed": {"embedding": dims.MatrixDims(-1, -2)},
    "head": {"kernel": dims.MatrixDims(-2, -1), "bias": None},
    "query": {"bias": None},
  }


def test_flax_layers():
  """What Flax itself names and shapes, in both of its interfaces."""
  expected = {
    "key/kernel": dims.MatrixDims((0,), (1, 2)),
    "query/kernel": dims.MatrixDims((0,), (1, 2)),
    "value/kernel": dims.MatrixDims((0,), (1, 2)),
    "out/kernel": dims.MatrixDims((0, 1), (2,)),
  }
  for kind in ("key", "query", "value", "out"):
    expected[f"{kind}/bias"] = None
  x = jnp.ones((1, 5, 8))
  attention = linen.MultiHeadDotProductAttention(num_heads=2, qkv_features=12)
  in_linen = jax.eval_shape(attention.init, jax.random.key(0), x)["params"]
  in_nnx = nnx.state(
    nnx.MultiHeadAttention(2, 8, 12, decode=False, rngs=nnx.Rngs(0)), nnx.Param
  )
  for params in (in_linen, in_nnx):
    paths = [path for path, _ in groups.leaves(params)]
    found = dict(zip(paths, dims.resolve(None, params), strict=True))
    assert found == expected


@pytest.mark.parametrize(
  ("shape", "entry"),
  [
    ((4, 6), dims.MatrixDims(1, 0)),
    ((2, 3, 4), dims.MatrixDims((0, 1), 2)),
    ((5, 3, 4, 6, 2), dims.MatrixDims((1, 3), (2,))),
  ],
)
def test_views_and_back(shape, entry):
  x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
  (entry,) = dims.resolve(entry, x)
  matrices = dims.to_matrices(jnp.asarray(x), entry)
  assert matrices.shape[1:] == dims.sizes(shape, entry)
  assert matrices.size == x.size
  np.testing.assert_array_equal(dims.from_matrices(matrices, shape, entry), x)


def test_view_is_the_matrix():
  kernel = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
  view = dims.to_matrices(jnp.asarray(kernel), dims.MatrixDims((0, 1, 2), (3,)))
  np.testing.assert_allclose(view[0], kernel.reshape(24, 5), rtol=1e-6)


def test_optax_entries_and_functions():
  params = {"a": jnp.ones((3, 4)), "b": jnp.ones((3, 4))}
  tree = {"a": optax.contrib.MuonDimensionNumbers(1, 0), "b": None}
  expected = [dims.MatrixDims((1,), (0,)), None]
  assert dims.resolve(tree, params) == expected
  assert dims.resolve(lambda _: tree, params) == expected


@pytest.mark.parametrize(
  "entry",
  [
    dims.MatrixDims(0, 0),
    dims.MatrixDims(0, -2),
    dims.MatrixDims((0, 1), ()),
    dims.MatrixDims(0, 2),
  ],
)
def test_bad_axes(entry):
  with pytest.raises(errors.UserError, match=r"'mlp/kernel' of shape \(3, 4\)"):
    dims.resolve(entry, {"mlp": {"kernel": np.ones((3, 4))}})
