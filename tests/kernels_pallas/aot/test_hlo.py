"""Bytes of programs, as compilers write them."""

import pytest

from kernels_pallas.aot import blockwise, hlo

LOOP = """\
HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[1024])) -> (s32[], f32[1024]) {
  %p = (s32[], f32[1024]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x.1 = f32[1024]{0} get-tuple-element(%p), index=1
  %add.1 = f32[1024]{0} add(%x.1, %x.1), metadata={op_name="jit(f)/add"}
  ROOT %t = (s32[], f32[1024]{0}) tuple(%i, %add.1)
}

%sliced (param_0: f32[8,1024], param_1: s32[]) -> f32[1024] {
  %param_0 = f32[8,1024]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  %c = s32[] constant(0)
  %s = f32[1,1024]{1,0} dynamic-slice(%param_0, %param_1, %c)
  ROOT %b = f32[1024]{0} bitcast(%s)
}

%in_place (param_0.1: f32[8,1024], param_1.1: f32[1,1024]) -> f32[8,1024] {
  %param_0.1 = f32[8,1024]{1,0} parameter(0)
  %param_1.1 = f32[1,1024]{1,0} parameter(1)
  %c.1 = s32[] constant(0)
  ROOT %u = f32[8,1024]{1,0} dynamic-update-slice(%param_0.1, %param_1.1, %c.1)
}

ENTRY %main (a: f32[8,1024], i: s32[]) -> f32[8,1024] {
  %a = f32[8,1024]{1,0} parameter(0)
  %n = s32[] parameter(1)
  %f = f32[1024]{0} fusion(%a, %n), kind=kLoop, calls=%sliced
  %t.1 = (s32[], f32[1024]{0}) tuple(%n, %f)
  %w = (s32[], f32[1024]{0}) while(%t.1), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %g = f32[1024]{0} get-tuple-element(%w), index=1
  %r = f32[1,1024]{1,0} bitcast(%g)
  ROOT %o = f32[8,1024]{1,0} fusion(%a, %r), kind=kLoop, calls=%in_place
}
"""


def test_slices_loops_and_updates():
  by_name = {k.name: k for k in hlo.kernels(LOOP)}
  row = 4 * 1024
  assert by_name["f"].bytes == 2 * row + 4
  assert (by_name["add.1"].bytes, by_name["add.1"].times) == (2 * row, 5)
  assert by_name["add.1"].source == "jit(f)/add"
  assert by_name["o"].bytes == 2 * row
  assert len(by_name) == 3
  # Those of the most bytes in all come first.
  assert next(iter(by_name)) == "add.1"


CHOICE = """\
HloModule jit_f, is_scheduled=true

%double (p: f32[1024]) -> f32[1024] {
  %p = f32[1024]{0} parameter(0)
  ROOT %add.1 = f32[1024]{0} add(%p, %p)
}

%twice (p.1: f32[1024]) -> f32[1024] {
  %p.1 = f32[1024]{0} parameter(0)
  %add.2 = f32[1024]{0} add(%p.1, %p.1)
  ROOT %add.3 = f32[1024]{0} add(%add.2, %add.2)
}

%body (p.2: (s32[], f32[1024])) -> (s32[], f32[1024]) {
  %p.2 = (s32[], f32[1024]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p.2), index=0
  %x.1 = f32[1024]{0} get-tuple-element(%p.2), index=1
  %y.1 = f32[1024]{0} conditional(%i, %x.1, %x.1), \
branch_computations={%double, %twice}
  ROOT %t = (s32[], f32[1024]{0}) tuple(%i, %y.1)
}

ENTRY %main (a: f32[1024], i: s32[]) -> f32[1024] {
  %a = f32[1024]{0} parameter(0)
  %n = s32[] parameter(1)
  %s = f32[1024]{0} sine(%a)
  %t.1 = (s32[], f32[1024]{0}) tuple(%n, %s)
  %w = (s32[], f32[1024]{0}) while(%t.1), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %g = f32[1024]{0} get-tuple-element(%w), index=1
}
"""


def test_of_a_conditional_one_branch_runs():
  row = 4 * 1024
  kernels = hlo.kernels(CHOICE)
  every = sum(kernel.bytes * kernel.times for kernel in kernels)
  assert every == 2 * row * (1 + 5 * (1 + 2))
  assert hlo.moved_bytes(CHOICE) == (2 * row * (1 + 5), 2 * row * (1 + 10))
  # Without a choice both are what the kernels move.
  loop = hlo.kernels(LOOP)
  moved = sum(kernel.bytes * kernel.times for kernel in loop)
  assert hlo.moved_bytes(LOOP) == (moved, moved)


def _fused(body, result):
  """A program that is one fusion of two arrays and an index."""
  return f"""\
%fused (p.0: f32[8,1024], p.1: f32[1024], p.2: s32[]) -> f32[] {{
  %p.0 = f32[8,1024]{{1,0}} parameter(0)
  %p.1 = f32[1024]{{0}} parameter(1)
  %p.2 = s32[] parameter(2)
  %c = s32[] constant(0)
  %zero = f32[8,1024]{{1,0}} broadcast(%c), dimensions={{}}
  %row = f32[1,1024]{{1,0}} bitcast(%p.1)
{body}
}}

ENTRY %main (a: f32[8,1024], b: f32[1024], i: s32[]) -> f32[] {{
  %a = f32[8,1024]{{1,0}} parameter(0)
  %b = f32[1024]{{0}} parameter(1)
  %i = s32[] parameter(2)
  ROOT %f = {result} fusion(%a, %b, %i), kind=kLoop, calls=%fused
}}
"""


STACK = "f32[8,1024]{1,0}"
UPDATE = f"{STACK} dynamic-update-slice(%p.0, %row, %p.2, %c)"


@pytest.mark.parametrize(
  ("body", "result", "rows"),
  [
    # As scans write them: several results, the stack among them, seen as flat.
    (
      f"  %u = {UPDATE}\n  %n = f32[1024]{{0}} negate(%p.1)\n"
      f"  ROOT %t = ({STACK}, f32[1024]{{0}}) tuple(%u, %n)",
      f"({STACK}, f32[1024]{{0}})",
      3,
    ),
    (
      f"  %u = {UPDATE}\n  ROOT %g = f32[8192]{{0}} bitcast(%u)",
      "f32[8192]{0}",
      2,
    ),
    # Into zeros that the fusion makes: all of them are written.
    (
      f"  ROOT %u = {STACK} dynamic-update-slice(%zero, %row, %p.2, %c)",
      STACK,
      8 + 1 + 8,
    ),
  ],
  ids=["several", "flat", "zeros"],
)
def test_results_that_are_updated_in_place(body, result, rows):
  (kernel,) = hlo.kernels(_fused(body, result))
  assert kernel.bytes == 4 * 1024 * rows + 4


@pytest.mark.parametrize(
  ("type_", "tiled", "expected"),
  [
    ("f32[8,128]{1,0}", False, 4096),
    (
      "(bf16[4]{0}, s4[8]{0}, pred[3]{0}, f8e4m3fn[2]{0})",
      False,
      8 + 4 + 3 + 2,
    ),
    ("f32[]", False, 4),
    # A column of single numbers fills tiles of 128.
    ("f32[64,1]{1,0:T(8,128)}", True, 64 * 128 * 4),
    ("f32[1,64]{0,1:T(8,128)}", True, 64 * 128 * 4),
    ("bf16[12,128]{1,0:T(8,128)(2,1)}", True, 16 * 128 * 2),
    # In the chip's own memory.
    ("f32[8,128]{1,0:T(8,128)S(1)}", True, 0),
  ],
)
def test_sizes_of_types(type_, tiled, expected):
  assert hlo.size_bytes(type_, tiled) == expected


CALL = """\
ENTRY %main (x: f32[64,128]) -> f32[64,128] {
  %x = f32[64,128]{1,0:T(8,128)} parameter(0)
  ROOT %k.1 = f32[64,128]{1,0:T(8,128)} custom-call(%x, %x), \
custom_call_target="tpu_custom_call", metadata={op_name="f/double/pallas_call"}
}
"""


def test_a_pallas_call_moves_its_blocks():
  shapes = ((64, 128),) * 3
  calls = (
    blockwise.Call("other", shapes, 1),
    blockwise.Call("double", shapes, 2),
    blockwise.Call("double", ((8, 128),), 3),
  )
  (kernel,) = hlo.kernels(CALL, tiled=True, moved=calls)
  assert (kernel.bytes, kernel.kind) == (2, "tpu_custom_call")
  # Of one that is not known, its arrays; what is given twice is read once.
  (kernel,) = hlo.kernels(CALL, tiled=True)
  assert kernel.bytes == 2 * 64 * 128 * 4


LIBRARY = """\
ENTRY %main (x: f32[64,64]) -> f32[64,64] {
  %x = f32[64,64]{1,0} parameter(0)
  %k.1 = (f32[64,64]{1,0}, s8[4096]{0}) custom-call(%x), \
custom_call_target="__cublas$gemm"
  ROOT %g = f32[64,64]{1,0} get-tuple-element(%k.1), index=0
}
"""


def test_scratch_of_a_library_does_not_count():
  (kernel,) = hlo.kernels(LIBRARY)
  assert kernel.bytes == 2 * 64 * 64 * 4
