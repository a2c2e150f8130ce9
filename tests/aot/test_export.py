"""Every op lowers for a GPU and a TPU, kernels included; nothing compiles."""

import jax
import jax.export
import pytest

import kernels_pallas
from kernels_pallas import aot, dispatch
from kernels_pallas.bench import passes

PLATFORMS = {"h200": "cuda", "v6e": "tpu"}
CALLS = {"h200": "mosaic_gpu", "v6e": "tpu_custom_call"}
# jax asks the GPU at hand for the version that it has.
ON_A_DEVICE_ALONE = ("cudnn",)


def lowered(name, impl, target):
  """Texts of the passes on the first specs that the implementation serves."""
  reasons = []
  for spec in passes.specs(name):
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
  [
    (name, impl)
    for name in kernels_pallas.OPS
    for impl in passes.kernels(name)
    if impl not in ON_A_DEVICE_ALONE
  ],
)
def test_a_kernel_lowers(name, impl):
  target = "v6e" if impl.endswith("_tpu") else "h200"
  for text in lowered(name, impl, target):
    assert CALLS[target] in text
