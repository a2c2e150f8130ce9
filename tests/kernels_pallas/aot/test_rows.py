"""The kernels over rows, compiled at full size: bytes, launches, registers."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels_pallas import aot, contract, dispatch
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
NARROW = [case for case in CASES if "1024" in case.id]


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec"), NARROW)
def test_members_of_a_population_share_a_launch(name, spec):
  if reason := aot.missing("h200"):
    pytest.skip(reason)
  function, arguments = passes(name, spec, "mosaic_gpu")[0]
  members = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct((4, *s.shape), s.dtype), arguments
  )
  compiled = aot.compile(jax.vmap(function), *members, target="h200")
  assert (compiled.kernels, compiled.spilled_bytes) == (1, 0)
  assert compiled.bytes <= 1.001 * 4 * spec.ideal_bytes


@pytest.mark.slow
@pytest.mark.parametrize("target", ["h200", "v6e"])
@pytest.mark.parametrize(("name", "spec"), NARROW)
def test_each_device_takes_its_rows(name, spec, target):
  if reason := aot.missing(target):
    pytest.skip(reason)
  impl = "pallas_tpu" if target == "v6e" else "mosaic_gpu"
  op, _ = contract.of(name)
  mesh = Mesh(np.array(aot.described(target, 4)), ("data",))
  rows, whole = (NamedSharding(mesh, P(*a)) for a in (["data"], []))
  x, *vectors, _ = spec.shapes
  given = [
    jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=rows if s is x else whole)
    for s in (x, *vectors)
  ]

  def both(dy, *arrays):
    y, vjp = jax.vjp(lambda *a: op(*a, None, 1e-6, impl=impl), *arrays)
    return y, *vjp(dy)

  with dispatch.rows_over(mesh, "data"):
    compiled = aot.compile(both, given[0], *given, target=target, devices=4)
  assert "all-gather" not in compiled.text
  assert "all-reduce" in compiled.text
