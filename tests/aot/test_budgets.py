"""Programs for an H200 and a TPU v6e move no more than they did.

They are compiled, which needs the extra `aot`; nothing runs.
"""

import pytest

from kernels_pallas import aot, dispatch
from tests.aot import budgets, programs

TARGETS = ("h200", "v6e")
MADE = {
  f"{kind}: {name}": make
  for kind, found in (
    ("norm", programs.of_norms()),
    ("update", programs.of_updates()),
    ("model", programs.of_models()),
    ("kernel", programs.of_kernels()),
  )
  for name, make in found.items()
}


@pytest.fixture(params=TARGETS)
def target(request):
  """A chip whose compiler is installed."""
  reason = aot.missing(request.param)
  if reason is not None:
    pytest.skip(reason)
  return request.param


def asked(known, program):
  """Whether a program is compiled; `known` is what has a budget."""
  if budgets.MODE == "all":
    return True
  has_budget = program in {name.rpartition(", ")[0] for name in known}
  return has_budget != (budgets.MODE == "missing")


def check(name, compiled, budget):
  """Bytes and kernels of a pass, against what they were."""
  reached = compiled.bytes, compiled.kernels
  for what, now, before in zip(
    ("bytes", "kernels"), reached, budget, strict=True
  ):
    assert now <= budgets.SLACK * before, (name, what, compiled.launches[:5])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of compilers.
@pytest.mark.parametrize("program", MADE)
def test_budget(program, target):
  known = budgets.read().get(target, {})
  # What our kernels spill is seen without one.
  if not asked(known, program) and not program.startswith("kernel: "):
    pytest.skip(
      "has its budget"
      if budgets.MODE
      else f"has no budget for {target}: make aot-budgets"
    )
  try:
    with aot.abstract(target):
      found = MADE[program]()
  except dispatch.UnsupportedError as error:
    pytest.skip(str(error))
  reached = {}
  for each in found:
    name = f"{program}, {each.name}"
    compiled = aot.compile(
      each.function, *each.arguments, target=target, donate=each.donated
    )
    assert not compiled.spilled_bytes, (name, compiled.launches[:3])
    reached[name] = [compiled.bytes, compiled.kernels]
    if name in known and not budgets.MODE:
      check(name, compiled, known[name])
  if budgets.MODE:
    budgets.write(target, reached)


def test_what_has_a_budget_is_compiled(monkeypatch):
  known = {"norm: dyt 8192x4096, both": [1, 1]}
  compiled = {}
  for mode in (None, "missing", "all"):
    monkeypatch.setattr(budgets, "MODE", mode)
    compiled[mode] = [
      asked(known, f"norm: {name} 8192x4096") for name in ("dyt", "derf")
    ]
  assert compiled == {
    None: [True, False],
    "missing": [False, True],
    "all": [True, True],
  }


def test_a_budget_holds_bytes_and_kernels():
  program = aot.Compiled(105, 20, 0, 0, 0, (), "")
  check("a pass", program, [100, 20])
  with pytest.raises(AssertionError, match="bytes"):
    check("a pass", program, [99, 20])
  with pytest.raises(AssertionError, match="kernels"):
    check("a pass", program, [100, 19])


def test_what_is_no_more_has_no_budget():
  for target, entries in budgets.read().items():
    assert target in TARGETS
    left = {name.rpartition(", ")[0] for name in entries} - MADE.keys()
    assert not left, f"make aot-budgets after deleting them: {sorted(left)}"
