"""Targets, what they need, and the assembler's report; without compilers."""

import os
import types

import jax
import jax.numpy as jnp
import pytest

from kernels_pallas import aot
from kernels_pallas.aot import compiling, ptxas, targets

REPORT = """\
ptxas warning : Registers are spilled to local memory in function 'a'
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_90a'
ptxas info    : Function properties for a
    376 bytes stack frame, 388 bytes spill stores, 380 bytes spill loads
ptxas info    : Used 255 registers, used 2 barriers, 1 bytes smem
ptxas info    : Compiling entry function 'b' for 'sm_90a'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
"""


def test_the_assemblers_report():
  assert ptxas.parse(REPORT) == [
    ptxas.Report("a", 255, 388),
    ptxas.Report("b", 32, 0),
  ]


def test_a_report_is_taken_and_other_words_pass(capfd):
  with ptxas.reported() as reports:
    os.write(2, REPORT.encode())
    os.write(1, b"something else\n")
  assert [report.name for report in reports] == ["a", "b"]
  assert capfd.readouterr() == ("", "something else\n")
  assert "MOSAIC_GPU_DUMP_PTXAS" not in os.environ


def compile_in_vain():
  os.write(2, b"why\n")
  raise RuntimeError("no")


def test_words_pass_when_the_compiler_fails(capfd):
  with pytest.raises(RuntimeError, match="no"), ptxas.reported():
    compile_in_vain()
  assert capfd.readouterr().err == "why\n"


def test_what_is_missing_says_which_extra(monkeypatch):
  monkeypatch.setattr(targets, "_installed", lambda wheel: False)
  assert "jax-cuda13-plugin" in aot.missing("h200")
  assert "nvidia-cuda-nvcc" in aot.missing("h200")
  assert aot.missing("v6e") == (
    "compiling for v6e needs libtpu: pip install 'normjax[aot]'"
  )
  with pytest.raises(aot.MissingError, match=r"normjax\[aot\]"):
    aot.compile(jnp.sin, jax.ShapeDtypeStruct((8,), jnp.float32), target="v5e")
  monkeypatch.setattr(targets, "_installed", lambda wheel: True)
  assert aot.missing("h200") is None


@pytest.mark.parametrize(
  ("text", "kind", "words"),
  [
    (
      "INTERNAL: libdevice not found at ./libdevice.10.bc\nmore",
      aot.MissingError,
      r"libdevice: pip install 'normjax\[aot\]' \(XLA: INTERNAL: .*10.bc\)$",
    ),
    (
      "No PTX compilation provider is available. Neither ptxas nor",
      aot.MissingError,
      r"h200 needs NVIDIA's assembler .*normjax\[aot\]",
    ),
    ("ptxas fatal: too much shared data", RuntimeError, "^ptxas fatal"),
  ],
)
def test_what_nvidias_toolkit_lacks(text, kind, words):
  def fail(options):
    raise RuntimeError(text)

  with pytest.raises(kind, match=words) as error:
    compiling._program(types.SimpleNamespace(compile=fail), "h200", None)
  assert type(error.value) is kind


def test_the_toolkits_assembler_will_do(monkeypatch):
  found = {"ptxas": "/usr/bin/ptxas"}
  monkeypatch.setattr(targets.shutil, "which", found.get)
  assert targets._installed("nvidia-cuda-nvcc")
  assert not targets._installed("jax-of-nowhere")


def test_an_unknown_target_lists_the_known():
  with pytest.raises(ValueError, match="'h100' is not known; known: h200"):
    aot.missing("h100")


def test_slices_have_certain_sizes():
  with pytest.raises(ValueError, match="devices=3: a slice of v6e has 1, 2"):
    aot.described("v6e", 3)


def test_tracing_is_for_the_chip():
  with aot.abstract("h200"):
    device = jax.sharding.get_abstract_mesh().abstract_device
  assert (device.platform, device.num_cores) == ("gpu", 132)
