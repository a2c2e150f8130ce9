"""Products of optimizers: bfloat16 where it is meant, float32 elsewhere."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import dispatch
from normjax import optim
from normjax.optim import projection, whitening
from tests import products


def update_products(tx, dtype=jnp.float32):
  params = {"kernel": jnp.zeros((4, 6), dtype)}
  return list(
    products.of(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
  )


@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_accelerators_iterate_in_bfloat16_with_float32_sums(name):
  """As the official code; a CPU, and whoever says so, in float32."""
  make = optim.REGISTRY.get(name)
  for platform in ("gpu", "tpu"):
    with (
      products.compiled_for(platform),
      dispatch.recording() as chosen,
    ):
      short = update_products(make(0.1))
      said = update_products(make(0.1, ns_dtype=jnp.float32))
    assert chosen == {"newton_schulz": ["bfloat16", "float32"]}
    assert {each.dtypes for each in short} == {("bfloat16",) * 2}
    assert {each.sums for each in short} == {"float32"}
    assert {each.dtypes for each in said} == {("float32",) * 2}
  assert {each.dtypes for each in update_products(make(0.1))} == {
    ("float32",) * 2
  }


def test_products_do_not_follow_the_ambient_precision():
  for ambient in (None, "bfloat16", "BF16_BF16_F32"):
    with jax.default_matmul_precision(ambient):
      found = update_products(optim.swan(0.1))
    assert found
    assert not [each for each in found if each.is_rounded]


def test_a_factorization_is_float32_on_a_tpu():
  """An SVD is a program of products there, and they state their precision."""
  shape = jax.ShapeDtypeStruct((1, 8, 12), jnp.float32)
  with jax.default_matmul_precision("bfloat16"):
    exported = jax.export.export(
      jax.jit(projection.singular_vectors), platforms=["tpu"]
    )(shape)
  lines = [
    line
    for line in exported.mlir_module().split("\n")
    if "dot_general " in line
  ]
  assert lines
  assert all("precision = [HIGHEST, HIGHEST]" in line for line in lines)


def test_whitening_in_bfloat16_keeps_within_its_bound():
  """A rounding of Z by u moves a singular value of Z X by kappa u.

  Kappa is the ratio of the largest to the smallest of X; there are ten steps.
  """
  kappa = 4.0
  bound = 10 * 2**-8 * kappa
  rng = np.random.default_rng(0)
  u = np.linalg.qr(rng.normal(size=(24, 24)))[0]
  v = np.linalg.qr(rng.normal(size=(64, 24)))[0]
  x = jnp.asarray((u * np.geomspace(1 / kappa, 1, 24)) @ v.T, "float32")[None]

  def singular(ns_dtype):
    whitened = np.asarray(whitening.whiten(x, ns_dtype=ns_dtype))[0]
    return np.linalg.svd(whitened, compute_uv=False) / 64**0.5

  exact, short = singular(None), singular(jnp.bfloat16)
  assert 0 < np.abs(short - exact).max() < bound
  # The band of ten steps of 0.8 is [0.5632, 1.6000].
  assert short.max() / short.min() < 1.6 / 0.5632 * (1 + bound)
