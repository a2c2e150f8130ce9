"""Estimates of parts against a transcription in float64, by its own rules.

    for each block B, each j: g_jB = (L(w + eps z_jB) - L(w - eps z_jB)) / 2 eps

with z_jB zero outside B and where the mask is; the estimate is the mean over j
of g_jB z_j. The last layers have the gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import objectives, rng
from normjax.train import sparse
from tests.train.zeroth_order import cases

EPS = 0.02
# Losses near 1.5 in float32 are off by some 2^-22, their difference over eps.
ATOL = 2.0**-20 / EPS


class Branched(nnx.Module):
  """Two layers of two branches, and a factor that both share."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.layers = nnx.List([Layer(rngs) for _ in range(2)])
    self.head = nnx.Linear(3, 4, rngs=rngs)

  def __call__(self, x, *, train=True, key=None):
    for layer in self.layers:
      x = layer(x)
    return self.head(x)


class Layer(nnx.Module):
  """A layer with the names of the models' own."""

  def __init__(self, rngs):
    self.attention = nnx.Linear(3, 3, rngs=rngs)
    self.attention_input_gain = nnx.Param(jnp.ones(3))
    self.feed_forward = nnx.Linear(3, 3, rngs=rngs)
    self.branch_gain = nnx.Param(jnp.float32(0.5))

  def __call__(self, x):
    attended = self.attention(x * self.attention_input_gain[...])
    x = x + self.branch_gain[...] * jnp.tanh(attended)
    return x + self.branch_gain[...] * jnp.tanh(self.feed_forward(x))


def _affine(w, name, x):
  return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def _logits_of_branched(w, x):
  for layer in ("layers/0", "layers/1"):
    gain = w[f"{layer}/branch_gain"]
    scaled = x * w[f"{layer}/attention_input_gain"]
    x = x + gain * np.tanh(_affine(w, f"{layer}/attention", scaled))
    x = x + gain * np.tanh(_affine(w, f"{layer}/feed_forward", x))
  return _affine(w, "head", x)


def _logits_of_small(w, x):
  x = _affine(w, "layers/1", np.tanh(_affine(w, "layers/0", x)))
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
  return _affine(w, "head", np.tanh(x * w["norm/scale"] + w["norm/bias"]))


def _loss(logits_of, w, batch, smoothing=0.0):
  logits = logits_of(w, np.asarray(batch["inputs"], np.float64))
  logits = logits - logits.max(-1, keepdims=True)
  chosen = logits[np.arange(8), np.asarray(batch["targets"])]
  aimed = (1 - smoothing) * chosen + smoothing * logits.mean(-1)
  return np.mean(np.log(np.exp(logits).sum(-1)) - aimed)


def _kept(n, index, num_zeros):
  """All but those that the first bits in order belong to."""
  key = rng.fold(jnp.int32(0), "zeroth_order_mask", 0)
  bits = np.asarray(jax.random.bits(jax.random.fold_in(key, index), (n,)))
  kept = np.ones(n, bool)
  kept[np.argsort(bits, kind="stable")[:num_zeros]] = False
  return kept


def _smallest(w, sparsity):
  """How many of each leaf are among the smallest of all, sorted at once."""
  of = np.concatenate([np.full(w[p].size, i) for i, p in enumerate(sorted(w))])
  sizes = np.abs(np.concatenate([w[p].ravel() for p in sorted(w)]))
  found = of[np.argsort(sizes, kind="stable")[: int(sparsity * len(of))]]
  return {path: int(np.sum(found == i)) for i, path in enumerate(sorted(w))}


def _transcribed(loss, w, blocks, zeros, count, first, *, two_sided=True):
  """The estimate by path, from a loss of float64 weights."""
  paths = sorted(w)
  total = {path: np.zeros(w[path].shape) for path in paths}
  for j in range(count):
    key = jax.random.fold_in(rng.fold(jnp.int32(0), "zeroth_order", 0), j)
    z = {}
    for index, path in enumerate(paths):
      drawn = jax.random.normal(jax.random.fold_in(key, index), w[path].shape)
      kept = _kept(w[path].size, index, zeros.get(path, 0))
      z[path] = np.asarray(drawn, np.float64) * kept.reshape(w[path].shape)
    for block in blocks:
      up, down = (
        loss({p: v + t * z[p] * (p in block) for p, v in w.items()})
        for t in (EPS, -EPS if two_sided else 0.0)
      )
      slope = (up - down) / (2 * EPS if two_sided else EPS)
      for path in block:
        total[path] += slope * z[path] / count
  for path in first:
    flat = total[path].reshape(-1)
    for n in range(flat.size):
      step = np.zeros(flat.size)
      step[n] = 1e-5
      step = step.reshape(w[path].shape)
      flat[n] = (
        loss({**w, path: w[path] + step}) - loss({**w, path: w[path] - step})
      ) / 2e-5
  return total


def _check(model, logits_of, options, blocks, *, first=(), count=1, **how):
  given = cases.own(model, f"zeroth_order({options})", eps=EPS)
  found = cases.named(cases.estimate(*given).gradients)
  w = {p: np.float64(v) for p, v in cases.named(given[1].params).items()}
  zeros = how.pop("zeros", lambda w: {})(w)
  want = _transcribed(
    lambda w: _loss(logits_of, w, given[2]), w, blocks, zeros, count, first,
    **how,
  )  # fmt: skip
  assert set().union(*blocks, first) == set(found) == set(want)
  for path, value in found.items():
    # |z| is below 4.5 here; zeros are exact.
    np.testing.assert_allclose(
      value, want[path], rtol=1e-5, atol=4.5 * ATOL, err_msg=path
    )
    np.testing.assert_array_equal(value == 0, want[path] == 0)


SMALL = sorted(
  cases.named(cases.own(cases.Small(), "backpropagation")[1].params)
)


def test_branches():
  """Attention with its norm, feed-forward network, and what both share."""
  ends = ("kernel", "bias")
  blocks = [{f"head/{end}" for end in ends}]
  for n in (0, 1):
    attention = {f"layers/{n}/attention/{end}" for end in ends}
    blocks += [
      attention | {f"layers/{n}/attention_input_gain"},
      {f"layers/{n}/feed_forward/{end}" for end in ends},
      {f"layers/{n}/branch_gain"},
    ]
  _check(Branched(), _logits_of_branched, "blocks='branches'", blocks)


def test_modules():
  """A linear layer's kernel and bias; two directions."""
  modules = {path.rpartition("/")[0] for path in SMALL}
  blocks = [{p for p in SMALL if p.startswith(f"{m}/")} for m in modules]
  assert len(blocks) == 4
  options = "blocks='modules', num_directions=2"
  _check(cases.Small(), _logits_of_small, options, blocks, count=2)


def test_directions_of_a_sparse_step_have_one_mask():
  options = "num_directions=3, sparsity=0.3"
  _check(
    cases.Small(), _logits_of_small, options, [set(SMALL)], count=3,
    zeros=lambda w: {path: int(0.3 * v.size) for path, v in w.items()},
  )  # fmt: skip


def test_shares_by_magnitude_are_those_of_sorting_all():
  """Biases are 0 and stay first; scales are 1, and move."""

  def zeros(w):
    found = _smallest(w, 0.4)
    assert found["layers/0/bias"] == 8
    assert found["norm/scale"] == 0
    assert 0 < found["layers/0/kernel"] < 24
    return found

  options = "num_directions=2, sparsity=0.4, layer_sparsity='magnitude'"
  _check(
    cases.Small(), _logits_of_small, options, [set(SMALL)], count=2, zeros=zeros
  )


def test_what_is_minimized_counts_and_not_the_loss_of_the_row():
  recipe, *rest = cases.own(cases.Small(), "zeroth_order", eps=EPS)
  smoothed = objectives.make("cross_entropy", label_smoothing=0.3)
  recipe = recipe._replace(make_objective=lambda _: smoothed)
  found = cases.estimate(recipe, *rest)
  w = cases.named(rest[0].params)
  w = {path: np.float64(leaf) for path, leaf in w.items()}
  batch = rest[1]
  want = _transcribed(
    lambda w: _loss(_logits_of_small, w, batch, 0.3), w, [set(w)], {}, 1, ()
  )
  plain = _transcribed(
    lambda w: _loss(_logits_of_small, w, batch), w, [set(w)], {}, 1, ()
  )
  path = "layers/1/kernel"
  value = cases.named(found.gradients)[path]
  np.testing.assert_allclose(value, want[path], rtol=1e-5, atol=4.5 * ATOL)
  assert np.abs(value - plain[path]).max() > 100 * ATOL
  # The mean of both passes is that at w up to eps^2.
  at_w = _loss(_logits_of_small, w, batch)
  np.testing.assert_allclose(found.metrics["loss"], at_w, rtol=20 * EPS**2)


def test_hybrid():
  """Norm and head by differences of 1e-5, two blocks below by passes."""
  first = {p for p in SMALL if p.startswith(("norm", "head"))}
  blocks = [{p for p in SMALL if p.startswith(f"layers/{n}/")} for n in (0, 1)]
  options = "first_order_layers=1, blocks='layers', derivative='one_sided'"
  _check(
    cases.Small(), _logits_of_small, options, blocks, first=first,
    two_sided=False,
  )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sparsity", [0.001, 0.3, 0.5, 0.99])
def test_counts_by_magnitude_are_exact(dtype, sparsity):
  """With many equals, zeros of both signs, and the smallest numbers."""
  draw = np.random.default_rng(0)
  leaves = {
    "a": jnp.asarray(draw.normal(size=(13, 7)), dtype),
    "b": jnp.asarray(draw.choice([-0.0, 0.0, 1.0, -1.0], size=50), dtype),
    "c": jnp.asarray(draw.normal(size=200) * 1e-3, dtype),
    "d": jnp.asarray(draw.choice([0.5, 1e-45, 3e38], size=31), dtype),
  }
  w = {path: np.asarray(leaf, np.float64) for path, leaf in leaves.items()}
  found = jax.jit(lambda w: sparse.by_magnitude(w, sparsity))(leaves)
  want = _smallest(w, sparsity)
  assert {path: int(n) for path, n in found.items()} == want
  assert sum(want.values()) == int(sparsity * 372)
