"""What SeeDNorm is at its start, with heads, and to an optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms, optim
from tests import support

X = 3 * support.normal(4, 6, 16)
# Sums of 16 squares, a root and products, in values up to 4.
ATOL = (16 + 8) * 2**-24 * 4


def variables(norm, **params):
  made = norm.init((16,))
  return {"params": made["params"] | params}


def output(norm, held, x=X):
  return jax.jit(norm.apply)(held, x)[0]


@pytest.mark.parametrize("num_heads", [1, 4])
def test_is_rms_norm_where_beta_is_zero(num_heads):
  """At init, and with trained alpha and scale too."""
  norm, rms = (
    norms.make("seednorm", num_heads=num_heads),
    norms.make("rms_norm"),
  )
  scale = 1 + abs(support.normal(16, seed=1))
  alpha = support.normal(16, seed=2)
  for trained in ({}, {"scale": scale, "alpha": alpha}):
    y = output(norm, variables(norm, **trained))
    trained.pop("alpha", None)
    expected = output(rms, variables(rms, **trained))
    np.testing.assert_allclose(y, expected, rtol=0, atol=ATOL * 2)


@pytest.mark.parametrize("alpha_init", [0.0, 1.0])
def test_alpha_and_beta_at_zero_are_a_dead_start(alpha_init):
  norm = norms.make("seednorm", alpha_init=alpha_init)
  gradient = jax.jit(
    jax.grad(
      lambda params: jnp.sum(jnp.sin(norm.apply({"params": params}, X)[0]))
    )
  )(variables(norm)["params"])
  np.testing.assert_array_equal(gradient["alpha"], np.zeros(16))
  assert bool(jnp.all(gradient["beta"] == 0)) == (alpha_init == 0)
  assert np.abs(gradient["scale"]).min() > 0


def test_a_saturated_gate_doubles_or_removes_a_token():
  """With alpha = scale = 1 the gain is 1 + tanh(x . beta), within [0, 2]."""
  norm = norms.make("seednorm")
  x = jnp.stack([jnp.ones(16), -jnp.ones(16)])
  y = output(norm, variables(norm, beta=jnp.ones(16)), x)
  np.testing.assert_allclose(y, [[2] * 16, [0] * 16], rtol=0, atol=ATOL)


def test_the_norm_of_x_shows_in_the_output_once_beta_moved():
  norm = norms.make("seednorm")
  held = variables(norm, beta=0.01 * jnp.ones(16))
  lengths = [
    np.linalg.norm(output(norm, held, a * jnp.ones(16))) for a in (1, 10, 1000)
  ]
  # 4 (1 + tanh(0.16 a)), where rms_norm has 4 throughout.
  expected = 4 * (1 + np.tanh(0.16 * np.array([1, 10, 1000])))
  np.testing.assert_allclose(lengths, expected, rtol=32 * 2**-24)


@pytest.mark.parametrize(
  ("dot_divisor", "divisor"),
  [("none", 1), ("features", 16), ("head_features", 4)],
)
def test_heads_are_apart(dot_divisor, divisor):
  """Head 2 alone has a beta: only its slice moves, by its own dot product."""
  norm = norms.make("seednorm", num_heads=4, dot_divisor=dot_divisor)
  beta = jnp.zeros(16).at[8:12].set(0.3)
  y = output(norm, variables(norm, beta=beta))
  rms = norms.make("rms_norm")
  plain = output(rms, variables(rms))
  np.testing.assert_allclose(y[..., :8], plain[..., :8], rtol=0, atol=ATOL)
  np.testing.assert_allclose(y[..., 12:], plain[..., 12:], rtol=0, atol=ATOL)
  dot = 0.3 * X[..., 8:12].sum(-1, keepdims=True) / divisor
  np.testing.assert_allclose(
    y[..., 8:12],
    plain[..., 8:12] * (1 + jnp.tanh(dot)),
    rtol=0,
    # The dot product's error, in values up to 10, on top.
    atol=2 * ATOL + 8 * 2**-24 * 10 * 4,
  )


def test_heads_that_do_not_divide_the_features():
  with pytest.raises(errors.UserError) as error:
    norms.make("seednorm", num_heads=5).init((16,))
  for part in ("num_heads=5", "16 features", "[1, 2, 4, 8, 16]"):
    assert part in str(error.value)


@pytest.mark.parametrize(
  "options",
  [
    {"num_heads": 0},
    {"num_heads": 2.0},
    {"eps": 0},
    {"alpha_init": np.inf},
    {"dot_divisor": "d"},
  ],
)
def test_bad_options_are_named(options):
  with pytest.raises(errors.UserError, match=next(iter(options))):
    norms.make("seednorm", **options)


def test_the_documented_mask_decays_alpha_and_beta():
  norm = norms.make("seednorm")
  params = {
    "layers": {"norm": norm.init((16,))["params"], "kernel": jnp.ones((16, 4))}
  }
  mask = optim.by_path(
    [(".*/(alpha|beta)", True), (".*(scale|bias)", False), (".*", True)]
  )
  tx = optim.adamw(1.0, weight_decay=0.5, mask=mask)
  still = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(still, tx.init(params), params)
  updates = updates["layers"]
  np.testing.assert_array_equal(updates["norm"]["alpha"], -0.5 * np.ones(16))
  np.testing.assert_array_equal(updates["norm"]["scale"], np.zeros(16))
  np.testing.assert_array_equal(updates["kernel"], -0.5 * np.ones((16, 4)))
  undecayed = optim.adamw(1.0, weight_decay=0.5)
  updates, _ = undecayed.update(still, undecayed.init(params), params)
  np.testing.assert_array_equal(
    updates["layers"]["norm"]["alpha"], np.zeros(16)
  )
