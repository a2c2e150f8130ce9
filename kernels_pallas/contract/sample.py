"""Arguments of an op, and the truth about them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels_pallas import dispatch
from kernels_pallas.contract.declared import Arguments, Contract
from kernels_pallas.specs import ArgumentSpec

# Half of the distance from 1 to the next float32.
_UNIT = 2**-24


@dataclasses.dataclass(frozen=True)
class Sample:
  """Arguments of an op, and what it must make of them."""

  op: dispatch.Op
  contract: Contract
  spec: ArgumentSpec
  seed: int = 0

  @functools.cached_property
  def arguments(self) -> Arguments:
    """As the contract draws them."""
    return self.contract.draw(self.spec, self.seed)

  @functools.cached_property
  def results(self) -> Any:
    """The shapes and dtypes of what the op returns."""
    return jax.eval_shape(
      lambda arguments: _reference(self.op)(*arguments, **self.spec.options),
      self.arguments,
    )

  @functools.cached_property
  def cotangents(self) -> Any:
    """Of the results: normal."""
    rng = np.random.default_rng(self.seed + 1)
    return jax.tree.map(
      lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), self.results
    )

  @functools.cached_property
  def truth(self) -> tuple[np.ndarray, ...]:
    """Results and gradients, in float64."""
    given = jax.device_get((self.arguments, self.cotangents))
    with jax.enable_x64(True):
      wide = jax.tree.map(_widened, given)
      run = jax.jit(values(_reference(self.op), self.spec))
      return jax.device_get(run(*wide))

  @functools.cached_property
  def ties(self) -> Sequence[Any]:
    """Where whole numbers may be the next ones, for each result."""
    find = self.contract.ties
    if find is None:
      return [None] * len(jax.tree.leaves(self.results))
    return find(
      self.spec, jax.tree.map(_widened, jax.device_get(self.arguments))
    )

  def check(self, actual: Sequence[Any]) -> None:
    """Compares results, and gradients if given, with the truth."""
    kinds = jax.tree.leaves(self.results) + [
      self.arguments[n] for n in self.spec.differentiated
    ]
    assert len(actual) in (len(jax.tree.leaves(self.results)), len(kinds))
    for n, (value, expected, kind) in enumerate(
      zip(actual, self.truth, kinds, strict=False)
    ):
      assert (value.shape, value.dtype) == (kind.shape, kind.dtype)
      value = np.asarray(value)
      if not jnp.issubdtype(value.dtype, jnp.floating):
        _check_whole(value, expected, self.ties[n])
        continue
      is_wide = value.dtype.itemsize >= 4
      terms, magnitude = self.contract.bounds(self.spec, value.shape)
      largest = np.abs(expected).max(initial=magnitude)
      np.testing.assert_allclose(
        np.float64(value),
        expected,
        rtol=0 if is_wide else float(jnp.finfo(value.dtype).eps) / 2,
        atol=(terms + 8) * _UNIT * largest,
      )


def _check_whole(value: np.ndarray, expected: np.ndarray, tied: Any) -> None:
  """Equal, or one apart where `tied`."""
  if tied is None:
    np.testing.assert_array_equal(value, expected)
    return
  apart = np.abs(np.int64(value) - np.int64(expected))
  wrong = np.argwhere(apart > tied)
  assert not len(wrong), (
    f"{len(wrong)} of {value.size} whole numbers are wrong, the first at"
    f" {wrong[0]}."
  )


def _widened(x: np.ndarray) -> np.ndarray:
  is_real = jnp.issubdtype(x.dtype, jnp.floating)
  return np.asarray(x, np.float64) if is_real else x


def _reference(op: dispatch.Op) -> Callable[..., Any]:
  (found,) = (c.function for c in op.candidates if c.name == "reference")
  return found


def values(function: Callable[..., Any], spec: ArgumentSpec):
  """(arguments, cotangents) -> the leaves of the results, and gradients."""

  def run(arguments, cotangents):
    if not spec.differentiated:  # Whole numbers have no cotangents.
      return tuple(jax.tree.leaves(function(*arguments, **spec.options)))

    def forward(*differentiated):
      given = list(arguments)
      for n, x in zip(spec.differentiated, differentiated, strict=True):
        given[n] = x
      return function(*given, **spec.options)

    results, vjp = jax.vjp(
      forward, *(arguments[n] for n in spec.differentiated)
    )
    return *jax.tree.leaves(results), *vjp(cotangents)

  return run
