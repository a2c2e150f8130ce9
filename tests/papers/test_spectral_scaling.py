"""What the released points of arXiv:2605.21803 say, with and without one."""

import pytest

from normjax.papers import targets
from normjax.statistics import power_law

WIDTHS = [768 * multiple for multiple in range(1, 9)]


@pytest.fixture(scope="module")
def printed():
  return targets.read("spectral_scaling")


def _points(printed, method, table="points, hard_rank"):
  return [
    printed.number(table, method, f"{multiple}x").value
    for multiple in range(1, 9)
  ]


def _without(values, multiple):
  return values[: multiple - 1] + values[multiple:]


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize(
  "method", ["AdamW", "Dion (1/2)", "Dion (1/16)", "Muon", "NorMuon"]
)
def test_the_released_points_have_the_printed_exponents(printed, method, kind):
  """Points are rounded to 0.01, which moves an exponent by less than 1e-4."""
  found = power_law.fit(
    WIDTHS, _points(printed, method, f"points, {kind}_rank")
  )
  for column, value in (
    ("beta", found.exponent),
    ("ci95 low", found.low),
    ("ci95 high", found.high),
    ("R2", found.r_squared),
  ):
    want = printed.number(f"main, {kind} rank", method, column).value
    assert value == pytest.approx(want, abs=1.5e-4)


def test_muons_widest_point_is_another_run(printed):
  for table in (
    "points, hard_rank",
    "points, soft_rank",
    *(f"points, hard_rank, {bucket}" for bucket in ("head", "mid", "tail")),
  ):
    muon, normuon = (
      _points(printed, method, table) for method in ("Muon", "NorMuon")
    )
    shared = set(muon) & set(normuon)
    assert shared == {muon[8 - 1]} == {normuon[6 - 1]}
  for kind in ("hard", "soft"):
    every = [
      value
      for method in ("AdamW", "Dion (1/2)", "Dion (1/16)", "Muon", "NorMuon")
      for value in _points(printed, method, f"points, {kind}_rank")
    ]
    assert len(every) - len({*every}) == 1


def test_without_it_muons_exponents_are_larger(printed):
  with_it = power_law.fit(WIDTHS, _points(printed, "Muon"))
  assert with_it.exponent == pytest.approx(0.8206, abs=5e-5)
  refitted = {}
  for name, table in {
    "global hard": "points, hard_rank",
    "global soft": "points, soft_rank",
    "head hard": "points, hard_rank, head",
    "mid hard": "points, hard_rank, mid",
    "tail hard": "points, hard_rank, tail",
  }.items():
    points = _points(printed, "Muon", table)
    refitted[name] = power_law.fit(_without(WIDTHS, 8), _without(points, 8))
    for rows, found in (
      ("Muon, 8 points", power_law.fit(WIDTHS, points)),
      ("Muon, 7 points", refitted[name]),
    ):
      want = printed.number("refit without Muon 8x (ours)", rows, name)
      assert found.exponent == pytest.approx(want.value, abs=6e-4)
  hard = refitted["global hard"]
  assert hard.exponent == pytest.approx(1.158, abs=5e-4)
  assert hard.standard_error == pytest.approx(0.115, abs=5e-4)
  assert hard.r_squared == pytest.approx(0.95, abs=5e-3)
  assert (hard.low, hard.high) == pytest.approx((0.861, 1.455), abs=5e-4)
  # Above AdamW's; with the point they overlap.
  adamw = power_law.fit(WIDTHS, _points(printed, "AdamW"))
  assert with_it.low < adamw.high < hard.low


def test_were_it_normuons_point_that_is_wrong(printed):
  """Which of the two was copied the points do not say."""
  points = _points(printed, "NorMuon")
  found = power_law.fit(_without(WIDTHS, 6), _without(points, 6))
  assert found.exponent == pytest.approx(0.884, abs=5e-4)
  assert (found.low, found.high) == pytest.approx((0.126, 1.641), abs=5e-4)
  assert found.r_squared == pytest.approx(0.64, abs=5e-3)


def test_a_larger_exponent_is_no_larger_rank(printed):
  adamw, muon = (_points(printed, m) for m in ("AdamW", "Muon"))
  assert adamw[0] > 2 * muon[0]
  four = power_law.fit(WIDTHS[:4], adamw[:4]).exponent
  assert four == pytest.approx(0.68, abs=5e-3)
