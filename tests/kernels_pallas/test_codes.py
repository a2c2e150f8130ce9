"""Arithmetic codes against the table's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import codes

SIGNS = pytest.mark.parametrize("signed", [True, False])


def midpoints(signed):
  values = codes.dynamic_map(signed)
  values = values[values >= 0]
  return (values[1:] + values[:-1]) * np.float32(0.5)


@SIGNS
def test_all_values_are_within_two_units_in_the_last_place(signed):
  table = codes.dynamic_map(signed)
  values = np.asarray(codes.value(jnp.arange(256), signed))
  apart = np.abs(values.view(np.int32).astype(int) - table.view(np.int32))
  assert apart.max() <= 2


@SIGNS
def test_all_ranks_are_the_tables_but_for_ties(signed):
  """Between two midpoints a rank is constant: it does not fall, and is equal
  at both ends.
  """
  offsets = np.arange(-8, 9)
  bits = midpoints(signed).view(np.int32)[:, None] + offsets
  bits = np.append(bits.ravel(), [0, np.float32(1.0).view(np.int32)])
  found = codes.rank(bits.astype(np.int32).view(np.float32), signed)
  table = codes._nearest(jnp.asarray(bits, jnp.int32), signed)
  differ = np.asarray(found != table)[:-2].reshape(-1, len(offsets))
  assert not differ[:, np.abs(offsets) > 3].any()
  # Two of the values around a midpoint, at most, are one code off.
  assert differ.sum() <= 2 * len(differ)
  assert np.max(np.abs(found - table)) == 1
  assert (found[-2], found[-1]) == (0, 128 if signed else 255)
  assert (np.diff(found[np.argsort(bits, kind="stable")]) >= 0).all()


@SIGNS
def test_every_code_comes_back(signed):
  codes_256 = jnp.arange(256)
  values = codes.value(codes_256, signed)
  found = codes.rank(jnp.abs(values), signed)
  if signed:
    found = codes.with_sign(found, codes_256 < codes.ZERO, sign_repair=False)
  np.testing.assert_array_equal(found, codes_256)


@pytest.mark.parametrize("block_layout", ["rows", "flat"])
@SIGNS
def test_forms_agree(signed, block_layout):
  """Random and special entries, blocks of zeros, a short last block."""
  x = jax.random.normal(jax.random.key(0), (64, 300))
  x = (
    x.at[0].set(0).at[1, :4].set(jnp.array([jnp.nan, jnp.inf, -jnp.inf, -0.0]))
  )
  x = x.at[2, :256].multiply(1e-42).at[3].multiply(1e38)
  table, arithmetic = (
    codes.quantize(x, 256, signed, block_layout, signed, form)
    for form in codes.FORMS
  )
  np.testing.assert_array_equal(table.absmax, arithmetic.absmax)
  differ = np.asarray(table.codes != arithmetic.codes)
  assert differ.mean() < 1e-4
  values = [
    codes.dequantize(arithmetic, 256, signed, block_layout, form)
    for form in codes.FORMS
  ]
  np.testing.assert_allclose(*values, rtol=4 * 2.0**-23)
