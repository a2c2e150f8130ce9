"""Faults that the contract of kernels must find."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import OPS, contract
from kernels_pallas.rms_norm import xla
from tests.kernels_pallas.contract import values_moved


@pytest.mark.parametrize("name", OPS)
def test_each_op_has_a_contract(name):
  """`prove` asks for all of them; each kernel has a sample."""
  op, its = contract.of(name)
  for candidate in op.candidates:
    if candidate.name in contract.BACK_ENDS:
      refused = [contract.reason(candidate, spec) for spec in its.specs]
      assert None in refused


def case(function):
  """The plainest of rms_norm, computed so."""
  (found, *_) = (c for c in contract.interpreted("rms_norm") if c.name == "xla")
  return dataclasses.replace(found, function=function)


def sums_of_rows(semantics, interpret, x):
  """Sums over rows, in one block that each step of the grid adds to."""

  def kernel(x_ref, sum_ref):
    @pl.when(pl.program_id(0) == 0)
    def _():
      sum_ref[...] = jnp.zeros_like(sum_ref)

    sum_ref[...] += jnp.sum(x_ref[...], axis=0, keepdims=True)

  return pl.pallas_call(
    kernel,
    grid=(pl.cdiv(x.shape[0], 8),),
    in_specs=[pl.BlockSpec((8, 128), lambda i: (i, 0))],
    out_specs=pl.BlockSpec((1, 128), lambda i: (0, 0)),
    out_shape=jax.ShapeDtypeStruct((1, 128), x.dtype),
    compiler_params=pltpu.CompilerParams(dimension_semantics=(semantics,)),
    interpret=interpret,
  )(x)


@pytest.mark.parametrize("semantics", ["parallel", "arbitrary"])
def test_two_steps_that_add_to_one_block(semantics, capfd):
  strict = contract.BACK_ENDS["pallas_tpu"].strict()
  sums_of_rows(semantics, strict, jnp.ones((32, 128)))
  races = "RACE DETECTED" in capfd.readouterr().out
  assert races == (semantics == "parallel")


def test_rows_past_the_end_are_not_zero():
  strict = contract.BACK_ENDS["pallas_tpu"].strict()
  assert np.isnan(sums_of_rows("arbitrary", strict, jnp.ones((12, 128)))).all()


def wrong_gradient(x, scale, _, eps):
  y = xla.rms_norm(x, scale, eps)
  return y + 1e-3 * (y - jax.lax.stop_gradient(y))


def wrong_dtype(x, scale, _, eps):
  return xla.rms_norm(x, scale, eps).astype(jnp.bfloat16)


@pytest.mark.parametrize("function", [wrong_gradient, wrong_dtype])
def test_wrong_values(function):
  with pytest.raises((AssertionError, ValueError)):
    contract.check_values(case(function))


def test_a_member_that_reads_another():
  """What is right alone, and mixes what `vmap` puts side by side."""

  @jax.custom_batching.custom_vmap
  def mixed(x):
    return x

  @mixed.def_vmap
  def _(size, batched, x):
    return jnp.roll(x, 1, axis=0), True

  def function(x, scale, _, eps):
    return xla.rms_norm(mixed(x), scale, eps)

  plain = case(function)
  spec = dataclasses.replace(plain.sample.spec, differentiated=())
  plain = dataclasses.replace(
    plain, sample=dataclasses.replace(plain.sample, spec=spec)
  )
  contract.check_values(plain)
  with pytest.raises(AssertionError):
    contract.check_members(plain)


def test_what_collectives_move():
  moved = [("(f32[128]{0}, f32[2,3]{1,0})", "all-reduce"), ("f32[]", "x")]
  assert values_moved(moved) == 128 + 6 + 1
