"""SOAP against the official code, and what its bases are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import optim
from tests.optim import references_soap

STEPS = 24


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def spread_gradients(shape, seed=1):
  """Gradients whose Gram matrices have eigenvalues apart: 1, 1.5^-2, …"""
  g = normal(STEPS, *shape, seed=seed)
  return g * 1.5 ** -np.arange(shape[0])[:, None] + 0.01 * normal(*shape)


def follow(tx, params, history):
  def step(carry, g):
    params, state = carry
    updates, state = tx.update(g, state, params)
    return (optax.apply_updates(params, updates), state), None

  return jax.jit(lambda c, g: jax.lax.scan(step, c, g)[0])(
    (params, tx.init(params)), history
  )


# A side longer than the other has no eigenbasis of its own at first: each of
# these shapes has full rank on the sides that are rotated.
_VARIANTS = [
  ((6, 6), {}),
  ((6, 6), {"precondition_frequency": 1, "weight_decay": 0.3}),
  ((6, 6), {"precondition_frequency": 4, "b1": 0.5, "b2": 0.9, "eps": 1e-3}),
  ((6, 10), {"max_precond_dim": 8, "precondition_frequency": 3}),
  ((10, 6), {"max_precond_dim": 8, "precondition_frequency": 3}),
  ((6, 6), {"max_precond_dim": 0}),
]


@pytest.mark.parametrize(
  ("shape", "options", "dtype"),
  [
    *((*variant, "float64") for variant in _VARIANTS),
    (*_VARIANTS[0], "float32"),
    *(
      pytest.param(*variant, "float32", marks=pytest.mark.slow)
      for variant in _VARIANTS[1:]
    ),
  ],
)
def test_equals_the_official_code(shape, options, dtype):
  w, gradients = normal(*shape), spread_gradients(shape)
  expected = references_soap.soap(
    "matrix",
    w,
    lambda t, _: gradients[t - 1],
    STEPS,
    learning_rate=0.01,
    **options,
  )
  with jax.enable_x64(dtype == "float64"):
    # (out, in) to Flax; a second leaf of the shape shares the calls.
    tx = optim.soap(0.01, **options)
    params = {
      name: {"kernel": jnp.asarray(scale * w.T, dtype)}
      for name, scale in (("a", 1), ("b", -1))
    }
    moves = jnp.asarray(gradients.transpose(0, 2, 1), dtype)
    history = {"a": {"kernel": moves}, "b": {"kernel": -moves}}
    params, _ = follow(tx, params, history)
  # An eigenvector turns by 6 u ||G|| / gap, a gap being 1% here; Adam divides
  # by the size of a direction, 1.5^-5 of the largest, in each step.
  u = np.finfo(dtype).eps / 2
  tolerance = 0.01 * STEPS * 6 * 100 * 1.5**5 * u
  for name, sign in (("a", 1), ("b", -1)):
    moved = sign * np.asarray(params[name]["kernel"]).T
    np.testing.assert_allclose(moved, expected, rtol=0, atol=tolerance)
  assert np.abs(expected - w).max() > 0.03


def test_the_first_step_only_takes_the_bases():
  g = jnp.asarray(normal(6, 6), "float32")
  tx = optim.soap(0.1, weight_decay=0.1)
  params = {"kernel": g, "bias": jnp.ones(6)}
  updates, _ = tx.update(params, tx.init(params), params)
  assert not updates["kernel"].any()
  assert updates["bias"].any()
  tx = optim.scale_by_soap()
  _, state = tx.update(params, tx.init(params), params)
  for gram, basis in (
    (g @ g.T, state.input_basis["kernel"][0]),
    (g.T @ g, state.output_basis["kernel"][0]),
  ):
    rotated = np.asarray(basis.T @ gram @ basis)
    size = np.abs(rotated).max()
    # Eigenvectors of a 6 x 6 matrix: the residual is a few 6 u.
    np.testing.assert_allclose(
      rotated, np.diag(np.diag(rotated)), atol=40 * 2.0**-24 * size
    )
    assert (np.diff(np.diag(rotated)) <= 0).all()


def test_bases_stay_orthogonal():
  tx = optim.scale_by_soap(precondition_frequency=1)
  params = {"kernel": jnp.zeros((6, 10))}
  _, state = follow(
    tx, params, {"kernel": jnp.asarray(normal(200, 6, 10), "float32")}
  )
  for basis in (state.input_basis, state.output_basis):
    q = np.float64(basis["kernel"][0])
    # One QR, not a product of 200: the error is of a single one, 10 * 10 u.
    np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=100 * 2.0**-24)


def test_a_long_side_is_not_rotated():
  params = {"kernel": jnp.ones((4, 32))}
  whole = optim.scale_by_soap().init(params)
  short = optim.scale_by_soap(max_precond_dim=8).init(params)
  moments = 4 + 2 * 4 * 4 * 32
  assert optim.state_bytes(whole) == moments + 2 * 4 * (16 + 32 * 32)
  assert optim.state_bytes(short) == moments + 2 * 4 * 16


def test_one_decomposition_for_all_layers():
  """Depth adds no eigenvectors and no QR: sides of one size are stacked."""

  def counts(num_layers):
    params = {
      str(n): {"up": {"kernel": jnp.ones((4, 6))}, "down": jnp.ones((6, 4))}
      for n in range(num_layers)
    }
    tx = optim.soap(0.1)
    text = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    return [text.count(name) for name in ("eigh[", " qr[")]

  assert counts(5) == counts(1) == [2, 2]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_bases_do_not_depend_on_the_gradient_s_scale(scale):
  g = jnp.asarray(normal(6, 6), "float32")
  tx = optim.scale_by_soap()
  params = {"kernel": g}
  one, scaled = (
    tx.update({"kernel": g * s}, tx.init(params))[1].input_basis["kernel"]
    for s in (1.0, jnp.float32(scale))
  )
  overlap = np.abs(np.asarray(one[0].T @ scaled[0]))
  # An eigenvector turns by u ||G|| / gap, a gap being at least 1% here.
  np.testing.assert_allclose(overlap, np.eye(6), atol=100 * 6 * 2.0**-24)


def test_eight_devices_equal_one():
  mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec(None, "d"))
  w = jnp.asarray(normal(8, 8), "float32")
  history = jnp.asarray(spread_gradients((8, 8)), "float32")
  tx = optim.soap(0.01, precondition_frequency=4)
  update = jax.jit(tx.update)

  def run(place):
    params = {"kernel": place(w)}
    state = tx.init(params)
    for g in history:
      updates, state = update({"kernel": place(g)}, state, params)
      params = optax.apply_updates(params, updates)
    return params["kernel"]

  np.testing.assert_allclose(
    run(lambda x: jax.device_put(x, split)),
    run(lambda x: x),
    # As against the official code, with two more directions.
    atol=0.01 * STEPS * 8 * 100 * 1.5**7 * 2.0**-24,
  )
