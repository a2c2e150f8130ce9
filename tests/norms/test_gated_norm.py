"""How GatedNorm and PreAffine start, and what the optimizers see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms, optim
from normjax.optim import dims, masks
from tests import support

X = 3 * support.normal(4, 6, 32)
# Sums of 32 squares, a root and products, in values up to 4.
ATOL = (32 + 8) * 2**-24 * 4


def output(name, x=X, **options):
  norm = norms.make(name, **options)
  return jax.jit(lambda x: norm.apply(norm.init(x.shape[-1:]), x)[0])(x)


@pytest.mark.parametrize("inner", ["rms_norm", "dyt"])
@pytest.mark.parametrize(("gate_init", "gate"), [("half", 0.5), ("one", 1.0)])
def test_the_gate_at_the_start(inner, gate_init, gate):
  """The output of step 0 is halved, or left as it is; both exactly."""
  y = output("gated_norm", gate_init=gate_init, inner=inner)
  np.testing.assert_array_equal(y, gate * output(inner))


def test_a_random_gate_starts_near_one_half():
  """|logit| <= rank * max|silu(hidden)| * max|W_up|, small against 1."""
  y = output("gated_norm", gate_init="random")
  ratio = y / output("rms_norm")
  assert 0 < np.abs(ratio - 0.5).max() < 0.05


def test_a_zero_w_up_is_no_dead_start():
  """W_up moves at once, W_down after it."""
  norm = norms.make("gated_norm")
  params = norm.init((32,))["params"]

  @jax.jit
  @jax.grad
  def gradient(params):
    return jnp.sum(jnp.sin(norm.apply({"params": params}, X)[0]))

  first = gradient(params)
  assert np.abs(first["gate_up"]).max() > 0
  np.testing.assert_array_equal(first["gate_down"], np.zeros((32, 16)))
  moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, first)
  assert np.abs(gradient(moved)["gate_down"]).max() > 0


def test_the_bottleneck_is_drawn_with_the_key():
  norm = norms.make("gated_norm", rank=5, init_std=0.1, gate_init="random")
  init = jax.jit(lambda key: norm.init((400,), key=key)["params"])
  one, same, two = (init(jax.random.key(seed)) for seed in (1, 1, 2))
  assert one["gate_down"].shape == (400, 5)
  assert one["gate_up"].shape == (5, 400)
  for name in ("gate_down", "gate_up"):
    np.testing.assert_array_equal(one[name], same[name])
    assert (one[name] != two[name]).any()
    # 2000 draws: the standard error of a standard deviation is 1/63 of it.
    assert abs(one[name].std() - 0.1) < 5 * 0.1 / 63
  assert abs((one["gate_down"] * one["gate_up"].T).mean()) < 5 * 0.01 / 45


def test_the_gate_is_two_matrices_to_the_optimizers():
  """Decayed and orthonormalised, where the inner scale is neither."""
  params = norms.make("gated_norm").init((32,))["params"]
  tree = {"layers": {"input_norm": params}}
  decayed = masks.decay_mask(tree)["layers"]["input_norm"]
  assert decayed == {"scale": False, "gate_down": True, "gate_up": True}
  axes = dims.default_dims(tree)["layers"]["input_norm"]
  assert axes["scale"] is None
  for name in ("gate_down", "gate_up"):
    assert axes[name] == dims.MatrixDims(-2, -1)
  tx = optim.muon(0.1)
  gradients = jax.tree.map(jnp.ones_like, tree)
  updates, _ = tx.update(gradients, tx.init(tree), tree)
  assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, tree)


def test_the_inner_norm_keeps_its_options():
  gated = norms.make("gated_norm", inner={"name": "dyt", "use_bias": False})
  assert set(gated.init((32,))["params"]) == {
    "alpha",
    "scale",
    "gate_down",
    "gate_up",
  }
  assert norms.make("gated_norm", inner="pre_affine").traits.scale_invariant
  assert not gated.traits.scale_invariant


@pytest.mark.parametrize(
  ("options", "part"),
  [
    ({"rank": 0}, "rank"),
    ({"rank": 1.5}, "rank"),
    ({"gate_init": "zero"}, "gate_init"),
    ({"init_std": 0}, "init_std"),
    ({"inner": "batch_norm"}, "inner='batch_norm'"),
    ({"inner": "gated_norm"}, "inner='gated_norm'"),
    ({"inner": "rmsnorm"}, "rms_norm"),
  ],
)
def test_bad_options_are_named(options, part):
  with pytest.raises(errors.UserError, match=part):
    norms.make("gated_norm", **options)


def test_pre_affine_starts_as_rms_norm():
  """Whatever lam starts at: the statistic is that of lam * x."""
  for lam_init in (1.0, 4.0):
    np.testing.assert_allclose(
      output("pre_affine", lam_init=lam_init),
      output("rms_norm"),
      rtol=0,
      # eps weighs less against 16 x^2: by eps / 2 of a mean square near 9.
      atol=ATOL + 1e-6,
    )


def test_pre_affine_does_without_an_outlier_in_x():
  """A large entry of lam shrinks the other features as a large x would."""
  norm, rms = norms.make("pre_affine"), norms.make("rms_norm")
  made = norm.init((32,))["params"]
  made["lam"] = made["lam"].at[3].set(50.0)
  y, _ = norm.apply({"params": made}, X)
  expected, _ = rms.apply(rms.init((32,)), X.at[..., 3].multiply(50))
  np.testing.assert_allclose(y, expected, rtol=0, atol=2 * ATOL)
  assert np.abs(y[..., :3]).max() < np.abs(output("rms_norm")[..., :3]).max()


@pytest.mark.parametrize("options", [{"eps": 0}, {"lam_init": 0}])
def test_pre_affine_names_bad_options(options):
  with pytest.raises(errors.UserError, match=next(iter(options))):
    norms.make("pre_affine", **options)
