"""What papers say of depth at initialization: the stream and the gradients.

Sequences have one token, so that attention is W_o W_v and no mean over tokens
makes it smaller. Xavier's kernels then give branches whose mean square is known
exactly in expectation, whatever the stream is: 1 for the attention of a
normalized token, and `_gated` for the feed-forward. So every expectation below
is exact; only the width and the number of tokens are finite.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import models
from normjax.nn import variables as nn_variables

BLOCKS, WIDTH, TOKENS = 8, 128, 128
INDEX = np.arange(1, BLOCKS + 1)
# The embedding's mean square.
START = 0.02**2
UNIT_EMBEDDING = {"slot_norms": {"embedding": "rms_norm(eps=1e-12)"}}


def _model(**options):
  given = {
    "vocab_size": TOKENS,
    "num_layers": BLOCKS,
    "num_heads": 2,
    "model_dim": WIDTH,
    "hidden_dim": WIDTH,
    "init": "xavier",
  }
  return models.make("llama", **{**given, **options})


def _stream(model):
  """Mean square of the stream after each block, over features and tokens."""
  tokens = jnp.arange(TOKENS, dtype=jnp.int32)[:, None]
  _, captured = nnx.capture(lambda m: m(tokens), nnx.Intermediate)(model)
  layers = nnx.to_pure_dict(captured)["layers"]
  return np.array(
    [np.mean(np.square(layers[i]["stream"][0])) for i in range(BLOCKS)]
  )


def _gated(mean_square):
  """E (silu(a) b)^2 of independent normals: f = d and Xavier keep variances."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(64)
  a = math.sqrt(mean_square) * nodes
  silu = a / (1 + np.exp(-a))
  return mean_square * np.sum(weights * silu**2) / np.sum(weights)


LINEAR = 1 + _gated(1.0)


def _assert_grows(got, start, added, size=1.0):
  """The stream is start + the sum of what the blocks add.

  Up to five deviations. A branch y adds y^2 + 2 x y to the mean square of x.
  With y^2 = `size`, the variance of y^2 is below 8 size^2 / d a block (fourth
  moments of two Gaussian matrices and of the gate), that of 2 x y is
  4 x^2 y^2 / d. Tokens average as if independent, up to their overlap by
  chance: 1 / tokens + 1 / d in place of 1 / tokens.
  """
  want = start + np.cumsum(added)
  variance = np.cumsum(8 * size**2 + 4 * want * added)
  variance *= (1 / TOKENS + 1 / WIDTH) / WIDTH
  # A sum of d squares and of as many tokens is rounded besides.
  np.testing.assert_array_less(
    np.abs(got - want), 5 * np.sqrt(variance) + 1e-5 * want
  )


@pytest.mark.parametrize(
  ("placement", "start", "added"),
  [
    # arXiv:2502.05795: linear in depth, against a logarithm.
    ("pre", START, LINEAR),
    ("parallel", START, LINEAR),
    (
      "layer_norm_scaling",
      START,
      [1 / index + _gated(1 / index) for index in INDEX],
    ),
    # arXiv:2502.02732: linear, by the square of the output norm's gain.
    ("sandwich", START, 2.0),
    ("peri", 1, 2.0),
    ("reordered", START, 2.0),
    # Post in the first quarter, pre after: arXiv:2412.13795.
    ("mix", 1, LINEAR * (INDEX > BLOCKS // 4)),
    # Inner norms fix what the last kernels read; their gain is sqrt(log 2N).
    ("sub_ln", START, 2 * math.log(2 * BLOCKS)),
  ],
  ids=lambda p: p if isinstance(p, str) else "",
)
def test_stream_grows_with_depth_as_the_placement_says(placement, start, added):
  added = np.broadcast_to(added, BLOCKS)
  # Its gain on Xavier's kernels is part of its own start.
  init = {"init": "placement"} if placement == "sub_ln" else {}
  # Where it is more than 1, so are the branches.
  size = max(1.0, added[0] / 2)
  got = _stream(_model(placement=placement, **init))
  _assert_grows(got, start, added, size)


@pytest.mark.parametrize("placement", ["hybrid", "hybrid_star"])
def test_hybrid_blocks_begin_anew(placement):
  """The feed-forward's residual is normalized: arXiv:2503.04598."""
  got = _stream(_model(placement=placement))
  for mean_square in got[1:]:
    _assert_grows(mean_square, 1, _gated(1.0))
  # The first starred block is plain: embedding, attention, feed-forward.
  first = (START, LINEAR) if placement == "hybrid_star" else (1, _gated(1.0))
  _assert_grows(got[0], *first)


@pytest.mark.parametrize(
  ("placement", "norm", "length"),
  [
    ("post", "rms_norm", WIDTH),
    ("deep_norm", "layer_norm", WIDTH),
    ("keel", "rms_norm", WIDTH),
    # nGPT, arXiv:2410.01131, equations 10 and 11.
    ("normalized_stream", "l2_norm", 1.0),
  ],
)
def test_stream_has_one_length(placement, norm, length):
  got = _stream(_model(placement=placement, norm=norm)) * WIDTH
  # Epsilon takes at most 1e-6 of a mean square of 1 or more; the rest is
  # rounding of a sum of 128 squares: 2^-24 sqrt(128), fivefold.
  np.testing.assert_allclose(got, length, rtol=6e-6)


@pytest.mark.parametrize("placement", ["pre", "peri"])
def test_output_norms_bound_what_a_branch_adds(placement):
  """By the square of their gain, whatever the kernels have become."""
  model = _model(placement=placement)
  for block in model.layers:
    for kernel in (block.attention.out.kernel, block.feed_forward.down.kernel):
      kernel[...] *= 10.0
    if placement == "peri":
      for branch in ("attention", "feed_forward"):
        getattr(block, f"{branch}_output_norm").scale[...] *= 0.5
  start, added, size = {
    "pre": (START, 100 * LINEAR, 100.0),
    "peri": (1, 2 * 0.5**2, 0.5**2),
  }[placement]
  _assert_grows(_stream(model), start, np.full(BLOCKS, added), size)


@pytest.mark.parametrize(
  ("residual", "squared"),
  [
    ("none", 1),
    ("inverse_sqrt_depth", 1 / (2 * BLOCKS)),
    ("inverse_depth", 1 / (2 * BLOCKS) ** 2),
    ("layer_scale(initial=0.1)", 0.01),
    ("skip_init", 0),
    ("rezero", 0),
  ],
)
def test_residual_scaling_keeps_the_stream(residual, squared):
  """O(1) under 1 / sqrt(L), to 1 under 1 / L, L branches: arXiv:2510.03470."""
  got = _stream(_model(residual=residual, **UNIT_EMBEDDING))
  _assert_grows(got, 1, np.full(BLOCKS, squared * LINEAR), squared)


def test_without_norms_the_branches_must_be_scaled():
  options = {"norm": "identity", **UNIT_EMBEDDING}
  added, mean_square = np.zeros(BLOCKS), 1.0
  for block in range(BLOCKS):
    for branch in (lambda m: m, _gated):
      more = branch(mean_square) / (2 * BLOCKS)
      mean_square, added[block] = mean_square + more, added[block] + more
  got = _stream(_model(residual="inverse_sqrt_depth", **options))
  # Branches grow with the stream, to this last size.
  _assert_grows(got, 1, added, mean_square / (2 * BLOCKS))
  # Attention alone doubles the mean square; the gates square it.
  with np.errstate(over="ignore", invalid="ignore"):
    unscaled = _stream(_model(**options))
  assert not np.all(unscaled < 2.0**BLOCKS)


def _down_gradients(placement, num_layers):
  """Squared norms of the loss's gradients by the last kernel of each block."""
  # DeepNorm's constants are a gain on Xavier's kernels, too.
  init = {"init": "placement"} if placement == "deep_norm" else {}
  model = _model(
    placement=placement, num_layers=num_layers, activation="relu", **init
  )
  structure, variables = nn_variables.split(model)
  tokens = jnp.arange(TOKENS, dtype=jnp.int32)[:, None]
  labels = jax.random.randint(jax.random.key(1), (TOKENS, 1), 0, TOKENS)

  def loss(kernels):
    model = nn_variables.merge(structure, variables)
    for block, kernel in zip(model.layers, kernels, strict=True):
      block.feed_forward.down.kernel[...] = kernel
    logs = jax.nn.log_softmax(model(tokens))
    return -jnp.mean(jnp.take_along_axis(logs, labels[..., None], axis=-1))

  gradients = jax.grad(loss)(
    [block.feed_forward.down.kernel[...] for block in model.layers]
  )
  return np.array([jnp.sum(jnp.square(gradient)) for gradient in gradients])


def test_gradients_by_depth():
  """At two and at eight blocks, in squares.

  The last block's is independent of depth for post and goes as 1 / L for pre,
  by the final norm (arXiv:2002.04745, theorem 1). The first-order effect of a
  gradient step is the sum over blocks: it grows with depth for post, and
  DeepNorm's constants make each block's share beta^2 / alpha^2 = 1 / (4 N)
  (arXiv:2203.00555, section 4).
  """
  few, many = (
    {name: _down_gradients(name, n) for name in ("pre", "post", "deep_norm")}
    for n in (2, BLOCKS)
  )
  last = {name: many[name][-1] / few[name][-1] for name in few}
  total = {name: many[name].sum() / few[name].sum() for name in few}
  # Powers of 4 are told apart by a factor of two. Values are off by a quarter:
  # relu makes tokens' activations overlap, so that a kernel's gradient sees the
  # sum of their gradients, one random vector of 128 entries.
  for got, want in (
    (last["pre"], 2 / BLOCKS),
    (last["post"], 1),
    (total["deep_norm"], 1),
    *((share, few["deep_norm"][0] / 4) for share in many["deep_norm"]),
  ):
    assert want / 2 < got < want * 2
  # The more so as lower blocks' gradients pass through more branches.
  assert total["post"] > BLOCKS / 4
