"""The kernels over rows, compiled at full size: bytes, launches, registers."""

import functools

import jax
import pytest

from kernels_pallas import aot, contract
from kernels_pallas.layer_norm import specs as layer_norm
from kernels_pallas.rms_norm import specs as rms_norm

# The most of a backward pass: its bytes over the ideal, and its launches, one
# for the kernel and one for each sum of partial gradients.
BACKWARD = {"rms_norm": (1.05, 2), "layer_norm": (1.1, 3)}
CASES = [
  pytest.param(name, spec, id=f"{name}-{spec.name}")
  for name, specs in (("rms_norm", rms_norm), ("layer_norm", layer_norm))
  for spec in specs.SPECS
]


def passes(name, spec, impl):
  """Forward, and backward from what forward keeps."""
  op, _ = contract.of(name)
  options = tuple(spec.options.values())

  def forward(residual, *differentiated):
    return op(*differentiated, residual, *options, impl=impl)

  *differentiated, residual = spec.shapes
  with aot.abstract("v6e" if impl == "pallas_tpu" else "h200"):
    results, kept = jax.eval_shape(
      lambda residual, *a: jax.vjp(functools.partial(forward, residual), *a),
      residual,
      *differentiated,
    )
  return (
    (forward, (residual, *differentiated)),
    (lambda kept, cotangents: kept(cotangents), (kept, results)),
  )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec"), CASES)
def test_on_an_h200(name, spec):
  if reason := aot.missing("h200"):
    pytest.skip(reason)
  forward, backward = (
    aot.compile(function, *arguments, target="h200")
    for function, arguments in passes(name, spec, "mosaic_gpu")
  )
  assert forward.spilled_bytes == backward.spilled_bytes == 0
  assert forward.registers > 0
  assert forward.kernels == 1
  assert forward.bytes <= 1.001 * spec.ideal_bytes
  ratio, kernels = BACKWARD[name]
  assert backward.kernels <= kernels
  assert backward.bytes <= ratio * spec.ideal_backward_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec"), CASES)
def test_on_a_v6e(name, spec):
  if reason := aot.missing("v6e"):
    pytest.skip(reason)
  for (function, arguments), ideal in zip(
    passes(name, spec, "pallas_tpu"),
    (spec.ideal_bytes, spec.ideal_backward_bytes),
    strict=True,
  ):
    compiled = aot.compile(function, *arguments, target="v6e")
    assert compiled.bytes <= 1.02 * ideal
