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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of compilers.
@pytest.mark.parametrize("program", MADE)
def test_budget(program, target):
  try:
    with aot.abstract(target):
      found = MADE[program]()
  except dispatch.UnsupportedError as error:
    pytest.skip(str(error))
  for each in found:
    compiled = aot.compile(
      each.function, *each.arguments, target=target, donate=each.donated
    )
    assert not compiled.spilled_bytes, compiled.launches[:3]
    reached = [compiled.bytes, compiled.kernels]
    name = f"{program}, {each.name}"
    if budgets.UPDATES:
      budgets.write(target, name, reached)
      continue
    budget = budgets.read().get(target, {}).get(name)
    assert budget, f"{name} has no budget for {target}: make aot-budgets"
    for what, now, before in zip(
      ("bytes", "kernels"), reached, budget, strict=True
    ):
      assert now <= budgets.SLACK * before, (name, what, compiled.launches[:5])


def test_what_is_no_more_has_no_budget():
  for target, entries in budgets.read().items():
    assert target in TARGETS
    left = {name.rpartition(", ")[0] for name in entries} - MADE.keys()
    assert not left, f"make aot-budgets after deleting them: {sorted(left)}"
