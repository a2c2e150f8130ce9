"""Every op lowers for a GPU and a TPU, kernels included; nothing compiles."""

import jax
import jax.export
import pytest

import kernels_pallas
from kernels_pallas import aot, contract, dispatch
from kernels_pallas.bench import passes

PLATFORMS = {"h200": "cuda", "v6e": "tpu"}
CALLS = {"pallas_tpu": "tpu_custom_call", "mosaic_gpu": "mosaic_gpu"}


def lowered(name, impl, target):
  """Texts of the passes on the first specs that the implementation serves."""
  _, its = contract.of(name)
  reasons = []
  for spec in its.specs:
    try:
      with aot.abstract(target):
        found = passes.of_op(name, spec, impl)
        return [
          jax.export.export(
            jax.jit(each.function), platforms=[PLATFORMS[target]]
          )(*each.arguments).mlir_module()
          for each in found
        ]
    except dispatch.UnsupportedError as error:
      reasons.append(str(error))
  raise AssertionError(reasons)


@pytest.mark.parametrize("target", PLATFORMS)
@pytest.mark.parametrize("name", kernels_pallas.OPS)
def test_the_default_lowers(name, target):
  for text in lowered(name, None, target):
    # A kernel is no default before it is proved.
    assert not any(call in text for call in CALLS.values())


@pytest.mark.parametrize(
  ("name", "impl"),
  [(name, i) for name in kernels_pallas.OPS for i in passes.kernels(name)],
)
def test_a_kernel_lowers(name, impl):
  target = "v6e" if impl == "pallas_tpu" else "h200"
  for text in lowered(name, impl, target):
    assert CALLS[impl] in text
