"""Adaptive clipping: beside optax and the official rule, and its exemptions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import errors, optim

SHAPES = {
  "stem/conv/kernel": (3, 3, 4, 5),
  # Squeezed, one axis is left: the official rule takes the whole.
  "narrow/conv/kernel": (1, 1, 6, 1),
  "wide/conv/kernel": (1, 1, 1, 6),
  "dense/kernel": (6, 7),
  "attention/query/kernel": (6, 2, 4),
  "dense/bias": (7,),
  "stem/weight_norm/gain": (5,),
  "skip_gain": (),
}


def official(g, w, clipping, eps):
  """`agc_optax.my_clip` of deepmind-research/nfnets, by rank."""
  axis, keepdims = {2: 0, 3: 0, 4: (0, 1, 2)}.get(w.ndim), True
  if np.squeeze(w).ndim <= 1:
    axis, keepdims = None, False
  norm_g, norm_w = (
    np.sum(x**2, axis=axis, keepdims=keepdims) ** 0.5 for x in (g, w)
  )
  most = clipping * np.maximum(norm_w, eps)
  clipped = g * (most / np.maximum(norm_g, 1e-6))
  return np.where(norm_g < most, g, clipped)


def draw(seed, spread):
  """Leaves whose units differ in size by some orders of magnitude."""
  rng = np.random.default_rng(seed)
  return {
    path: np.asarray(
      rng.normal(size=shape) * 10.0 ** rng.uniform(-spread, 1, shape[-1:])
    )
    for path, shape in SHAPES.items()
  }


@jax.jit
def _clip_both(gradients, params, clipping, eps):
  """Ours and optax's, in one program for all bounds."""
  moved = []
  for make in (optim.adaptive_grad_clip, optax.adaptive_grad_clip):
    tx = make(clipping, eps)
    moved.append(tx.update(gradients, tx.init(params), params)[0])
  return moved


@pytest.mark.parametrize(("clipping", "eps"), [(0.01, 1e-3), (1.0, 0.5)])
def test_equals_the_official_rule_and_optax(clipping, eps):
  with jax.enable_x64(True):
    params, gradients = draw(0, 3), draw(1, 5)
    ours, theirs = _clip_both(gradients, params, clipping, eps)
    untouched = 0
    for path, g in gradients.items():
      want = official(g, params[path], clipping, eps)
      # Two norms of at most 36 terms and their quotient, in float64.
      np.testing.assert_allclose(ours[path], want, rtol=1e-14, err_msg=path)
      np.testing.assert_allclose(theirs[path], want, rtol=1e-14, err_msg=path)
      untouched += np.sum(want == g)
    total = sum(g.size for g in gradients.values())
    assert 0 < untouched < total


def test_attention_outputs_are_units_of_all_heads():
  """Where the rank misleads: (h, k, d) feeds d outputs from h k inputs."""
  rng = np.random.default_rng(0)
  w = {"attention": {"out": {"kernel": rng.normal(size=(2, 4, 6))}}}
  g = jax.tree.map(lambda x: 1e3 * np.abs(x), w)
  with jax.enable_x64(True):
    clipped, _ = optim.adaptive_grad_clip().update(g, optax.EmptyState(), w)
  ratio = np.linalg.norm(
    clipped["attention"]["out"]["kernel"].reshape(8, 6), axis=0
  ) / np.linalg.norm(w["attention"]["out"]["kernel"].reshape(8, 6), axis=0)
  np.testing.assert_allclose(ratio, 0.01, rtol=1e-14)


def test_what_is_exempt():
  """The last layer's weights; its bias, gains and other biases are clipped."""
  params = {
    "head": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
    "squeeze_excite": {"linear": {"kernel": jnp.ones((4, 3))}},
    "norm": {"scale": jnp.ones(4)},
  }
  gradients = jax.tree.map(lambda w: 100 * w, params)

  def clips(**options):
    tx = optim.adaptive_grad_clip(**options)
    updates, _ = tx.update(gradients, tx.init(params), params)
    return jax.tree.map(lambda u, g: bool(jnp.any(u != g)), updates, gradients)

  everything = jax.tree.map(lambda _: True, params)
  assert clips(exempt=None) == everything
  official = everything | {"head": {"kernel": False, "bias": True}}
  assert clips() == official
  assert clips(exempt="squeeze.*")["squeeze_excite"] == {
    "linear": {"kernel": False}
  }


def test_clipping_comes_before_decay_and_momentum():
  """One step by hand: 1.9 (AGC(g) + wd w), not AGC(g + wd w)."""
  params = {"dense": {"kernel": jnp.full((2, 2), 3.0)}}
  gradients = {"dense": {"kernel": jnp.full((2, 2), 50.0)}}
  tx = optim.nfnet_sgd(1.0, weight_decay=0.5)
  updates, _ = tx.update(gradients, tx.init(params), params)
  # Each column: AGC(g) = 0.01 |w| in the direction (1, 1) / sqrt(2).
  want = -1.9 * (0.01 * 3.0 + 0.5 * 3.0)
  # A handful of roundings.
  np.testing.assert_allclose(updates["dense"]["kernel"], want, rtol=1e-6)


def test_what_starts_at_zero_moves_by_the_bound():
  """The skip gain of a NFNet: at most clipping * eps per step."""
  params = {"skip_gain": jnp.zeros(())}
  tx = optim.adaptive_grad_clip(0.01, 1e-3)
  update, _ = tx.update(
    {"skip_gain": jnp.float32(-7.0)}, tx.init(params), params
  )
  np.testing.assert_allclose(update["skip_gain"], -1e-5, rtol=1e-6)


def test_dims_say_what_a_unit_is():
  w = {"k": jnp.ones((4, 3))}
  g = {"k": 100.0 * jnp.arange(1, 13).reshape(4, 3)}
  tx = optim.adaptive_grad_clip(dims={"k": optim.MatrixDims(1, 0)})
  rows, _ = tx.update(g, tx.init(w), w)
  np.testing.assert_allclose(
    np.linalg.norm(rows["k"], axis=1), 0.01 * np.sqrt(3), rtol=1e-6
  )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"clipping": -1.0}, "clipping=-1; allowed"),
    ({"eps": float("nan")}, "eps=nan; allowed"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    optim.adaptive_grad_clip(**options)
  with pytest.raises(errors.UserError, match=message):
    optim.nfnet_sgd(0.1, **options)
