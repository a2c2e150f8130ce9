"""Verdicts on statements: by tests, by counts, by facts, and none at all."""

import math
import random

import numpy as np
import pytest

from normjax import papers, statistics
from normjax.report import paper
from normjax.report.paper import statements
from tests.report.paper.conftest import around, computed, stated, trained


def _one(judge, expected, **cells):
  return judge(expected, **cells).statements[0]


@pytest.mark.parametrize(
  ("gap", "verdict"),
  [(0.3, "confirmed"), (0.1, "undecided"), (-0.1, "contradicted")],
)
def test_a_bound_is_decided_where_the_interval_lies_on_one_side(
  judge, gap, verdict
):
  """The spread of the paired gap is 0.05: its interval is ± 0.062."""
  b = around(1.0, 0.4)
  noise = around(gap, 0.05, 5)
  a = {seed: b[seed] + noise[seed] for seed in b}
  found = _one(
    judge, papers.above("a", "b", by=0.1), a=trained(a), b=trained(b)
  )
  assert found.verdict == verdict
  assert found.interval.mean == pytest.approx(gap)
  assert found.interval.half_width == pytest.approx(0.0621, abs=1e-4)
  # One statement alone: the verdict is that of the 95% interval.
  inside, outside = found.interval.low > 0.1, found.interval.high < 0.1
  assert (verdict == "confirmed", verdict == "contradicted") == (
    inside,
    outside,
  )


@pytest.mark.parametrize(
  ("mean", "verdict"),
  [(0.0, "confirmed"), (0.3, "undecided"), (0.6, "contradicted")],
)
def test_two_bounds_are_confirmed_from_both_sides(judge, mean, verdict):
  values = trained(around(mean, 0.1))
  found = _one(judge, papers.between("a", -0.3, 0.3), a=values)
  assert found.verdict == verdict
  found = _one(judge, papers.between("a", -0.7, 0.7), a=trained(around(0, 0.1)))
  assert found.verdict == "confirmed"


def test_the_p_values_are_those_of_the_t_test(judge):
  """Against scipy.stats.ttest_1samp, one-sided at each bound and doubled."""
  cell = trained([0.21, 0.3, 0.26, 0.33, 0.35])
  band = _one(judge, papers.between("a", 0.2, 0.5), a=cell)
  assert band.p_value == pytest.approx(2 * 0.0115251825)
  above = _one(judge, papers.at_least("a", 0.4), a=cell)
  assert above.p_value == pytest.approx(0.0118517080)
  assert above.verdict == "contradicted"


def test_statements_share_the_error_by_holm(judge):
  cells = {
    "a": trained(around(0.107, 0.1)),
    "b": trained(around(3.0, 0.1)),
    "c": trained(around(0.0, 0.1)),
  }
  weak = papers.at_least("a", 0.0)
  assert _one(judge, weak, **cells).verdict == "undecided"
  cells["a"] = trained(around(0.13, 0.1))
  assert _one(judge, weak, **cells).verdict == "confirmed"
  found = judge(
    [weak, papers.at_least("b", 0), papers.at_least("c", 0)], **cells
  )
  assert [s.verdict for s in found.statements] == [
    "undecided", "confirmed", "undecided",
  ]  # fmt: skip
  assert "adjustment for 3 statements alone" in found.statements[0].reason
  assert found.verdict == "undecided"
  # What needs no test takes no part.
  found = judge(
    [weak, papers.trains("b"), papers.exactly("n", 308)],
    **cells, n=computed(308),
  )  # fmt: skip
  assert found.verdict == "confirmed"
  # What could not be tested yet does: it counts as p = 1.
  lost = trained([1.0, 2.0], planned=5)
  found = judge([weak, papers.above("d", "b")], **cells, d=lost)
  assert found.statements[0].p_holm == pytest.approx(
    2 * found.statements[0].p_value
  )


@pytest.mark.parametrize("scenario", ["on a bound", "some far", "band"])
def test_at_most_5_percent_of_tables_have_a_wrong_verdict(scenario):
  """Four statements that share a cell, the truth on their bounds."""
  rng = np.random.default_rng(7)
  truth = np.zeros(5)
  bounds = {"at_least": 0.0}
  if scenario == "some far":
    truth[3:] = -30.0, 30.0
  if scenario == "band":
    truth[1:] = 1.0
    bounds = {"at_least": -1.0, "at_most": 1.0}
  expected = [
    papers.Expected(ref, {"a": 1.0, ref: -1.0}, **bounds) for ref in "bcde"
  ]
  table = stated(*expected, refs="abcde")
  on_bound = [e for e, mean in zip("bcde", truth[1:], strict=True) if
              abs(mean) < 2]  # fmt: skip
  wrong, tables = 0, 400
  for _ in range(tables):
    values = truth + rng.normal(size=(5, 5))
    cells = {
      ref: trained(dict(enumerate(values[:, i].tolist())))
      for i, ref in enumerate("abcde")
    }
    found = statements.judge(table, cells)
    wrong += any(
      s.verdict != "undecided" and s.expected.claim in on_bound for s in found
    )
    sure = {s.expected.claim: s.verdict for s in found}
    if scenario == "some far":
      assert (sure["d"], sure["e"]) == ("confirmed", "contradicted")
  # 5% of 400, and three standard deviations of that count.
  assert wrong <= 20 + 3 * math.sqrt(400 * 0.05 * 0.95)
  assert wrong  # Else the statements could not have been wrong.


def test_an_exact_value_is_one_of_every_run(judge):
  two = papers.exactly("a", 2)
  assert _one(judge, two, a=trained([2.0] * 5)).verdict == "confirmed"
  assert _one(judge, two, a=trained([2.0] * 4 + [3.0])).verdict == (
    "contradicted"
  )
  assert _one(judge, two, a=trained([3.0])).verdict == "contradicted"
  assert _one(judge, two, a=computed(2)).verdict == "confirmed"
  # Whole numbers are counts, others are rounded as float32 is.
  count = papers.exactly("a", 3_000_000)
  assert _one(judge, count, a=computed(3_000_001)).verdict == "contradicted"
  third = papers.exactly("a", 1 / 3)
  rounded = float(np.float32(1 / 3))
  assert _one(judge, third, a=trained([rounded] * 3)).verdict == "confirmed"
  assert _one(judge, third, a=computed(0.3333)).verdict == "contradicted"


def test_what_no_chance_is_in_is_compared_as_it_is(judge):
  a, b = computed(5), computed(7)
  assert _one(judge, papers.below("a", "b"), a=a, b=b).verdict == "confirmed"
  assert _one(judge, papers.above("a", "b"), a=a, b=b).verdict == (
    "contradicted"
  )
  tie = _one(judge, papers.above("a", "b"), a=a, b=a)
  assert (tie.verdict, tie.reason) == (
    "undecided", "computed, exactly on the bound",
  )  # fmt: skip
  half = papers.ratio_below("a", "b", 0.5)
  assert _one(judge, half, a=computed(3.0), b=b).verdict == "confirmed"


def test_a_computed_number_stands_beside_every_seed(judge):
  found = _one(
    judge, papers.above("a", "b"), a=trained(around(9, 0.1)), b=computed(7)
  )
  assert (found.verdict, found.interval.n) == ("confirmed", 5)


def test_equal_values_of_trained_runs_decide_nothing(judge):
  """Their spread is not known, but for what an accuracy's steps tell of it."""
  same = trained([0.9] * 5)
  found = _one(judge, papers.at_least("a", 0.5), a=same)
  assert found.verdict == "undecided"
  assert "the same number in every run" in found.reason
  steps = trained([0.9] * 5, resolution=0.1)
  found = _one(judge, papers.at_least("a", 0.5), a=steps)
  assert found.verdict == "confirmed"
  assert found.interval.sd == pytest.approx(0.1 / math.sqrt(12))
  found = _one(judge, papers.at_least("a", 0.88), a=steps)
  assert found.verdict == "undecided"


def test_a_diverged_run_leaves_a_statement_on_values_open(judge):
  lost = trained({0: 0.5, 1: 0.5}, diverged=(2, 3, 4))
  found = _one(judge, papers.above("a", "b"), a=trained(around(9, 0.1)), b=lost)
  assert (found.verdict, found.reason) == (
    "undecided", "b diverged 3 of 5",
  )  # fmt: skip
  assert found.interval.mean is None  # Survivors flatter.


@pytest.mark.parametrize(
  ("diverged", "diverges", "trains"),
  [
    ((0, 1, 2), "confirmed", "contradicted"),
    ((0,), "undecided", "undecided"),
    ((), "contradicted", "confirmed"),
  ],
)
def test_divergence_is_counted(judge, diverged, diverges, trains):
  cell = trained({s: 1.0 for s in {0, 1, 2} - set(diverged)}, diverged)
  found = judge([papers.diverges("a"), papers.trains("a")], a=cell)
  assert [s.verdict for s in found.statements] == [diverges, trains]
  assert found.statements[0].reason == f"in {len(diverged)} of 3 runs"


def test_runs_that_are_to_come_decide_nothing(judge):
  part = trained([5.0, 5.1, 5.2], planned=5)
  for expected in (
    papers.at_least("a", 0), papers.trains("a"), papers.exactly("a", 5),
  ):  # fmt: skip
    found = _one(judge, expected, a=part)
    assert (found.verdict, found.reason) == (
      "undecided", "a: 3 of 5 runs",
    )  # fmt: skip
  found = _one(judge, papers.at_least("a", 0), a=paper.Measured())
  assert found.reason == "a was not run"


@pytest.mark.parametrize(
  ("cells", "reason"),
  [
    ({"a": trained([1.0]), "b": trained([2.0])}, "1 seed, a test needs 2"),
    ({"a": trained({0: 1.0, 1: 2.0}), "b": trained({2: 1.0, 3: 2.0})},
     "a and b have no seed in common"),
    ({"a": trained({-1: 1.0, -2: 2.0}), "b": trained({1: 1.0, 2: 2.0})},
     "a and b have no seed in common"),
    ({"a": trained([1e308, -1e308, 1e308]), "b": trained([-1e308] * 3)},
     "its numbers are too large"),
    ({"a": trained([1e200, 2e200, 3e200]), "b": trained([1.0] * 3)},
     "its numbers are too large"),
    ({"a": computed(math.nan, 1.0), "b": trained([1.0] * 3)},
     "a diverged 1 of 2"),
    ({"a": computed(math.inf), "b": computed(1.0)}, "a diverged 1 of 1"),
    ({"a": trained({}, planned=3, censored=True), "b": trained([1.0] * 3)},
     "a: 0 of 3 runs"),
    ({"a": computed(), "b": computed(1.0)}, "a was not run"),
  ],
)  # fmt: skip
def test_why_nothing_can_be_said(judge, cells, reason):
  found = _one(judge, papers.above("a", "b"), **cells)
  assert (found.verdict, found.reason) == ("undecided", reason)
  judged = judge(papers.above("a", "b"), **cells)
  assert paper.results(judged, "n", {}, None).expected[0].reason == reason


def test_seeds_that_only_one_cell_has_do_not_count(judge):
  a, b = around(9, 0.1), around(1, 0.1)
  del a[0], b[4]
  found = _one(judge, papers.above("a", "b"), a=trained(a), b=trained(b))
  assert (found.verdict, found.interval.n) == ("confirmed", 3)


def test_folds_count_once_however_many_seeds_have_them(judge):
  """Six seeds of three folds: values by fold, divergence by seed."""

  def cell(mean, lost=()):
    values = {-1 - f: v for f, v in around(mean, 0.1, 3).items()}
    return paper.Measured(
      values, frozenset(lost), 6, 6, seeds=frozenset(range(6))
    )

  found = judge(
    [papers.above("a", "b"), papers.trains("a")], a=cell(9.0), b=cell(1.0)
  )
  assert found.verdict == "confirmed"
  assert [s.interval.n for s in found.statements] == [3, 6]
  both = papers.Expected("x", {"a": 1.0, "b": 1.0}, at_least=1, of="divergence")
  lost = _one(judge, both, a=cell(9.0, (0, 1, 2)), b=cell(1.0, (3, 4, 5)))
  assert (lost.verdict, lost.reason) == ("confirmed", "in 6 of 6 runs")


def test_a_target_that_was_not_reached_leaves_a_statement_open(judge):
  late = paper.Measured({}, frozenset(), 3, 3, censored=True)
  found = _one(judge, papers.above("a", "b"), a=late, b=trained([1.0] * 3))
  assert found.reason == "a was not reached in every run"


def test_what_seeds_can_decide_is_said_beforehand():
  table = stated(
    papers.above("a", "b"), papers.above("c", "b"), papers.trains("a"),
    papers.exactly("d", 1),
  )  # fmt: skip
  assert paper.attainable(table, 5) == statistics.attainable(5, 2)
  assert paper.attainable(stated(papers.trains("a")), 5) is None


def test_nothing_stated_is_nothing_confirmed(judge):
  assert judge([], a=trained([1.0])).verdict == "undecided"


NUMBERS = (
  0.0,
  -0.0,
  1.0,
  0.3,
  5e-324,
  1e-308,
  1e200,
  -1e308,
  1e308,
  3.0,
  123.0,
)


def test_no_numbers_break_a_verdict():
  """Sums that overflow, cancel or vanish, in any state of the runs."""
  draw = random.Random(0)

  def cell():
    seeds = draw.sample(range(-2, 6), draw.randint(0, 5))
    lost = frozenset(s for s in seeds if draw.random() < 0.15)
    return paper.Measured(
      {s: draw.choice(NUMBERS) for s in seeds if s not in lost}, lost,
      len(seeds), len(seeds) + (draw.random() < 0.1),
      draw.choice((0.0, 0.1, 1e300)), frozenset(seeds),
      computed=draw.random() < 0.3,
    )  # fmt: skip

  found = set()
  for _ in range(200):
    low = draw.choice((None, *NUMBERS))
    high = draw.choice((None, low)) if low is not None else draw.choice(NUMBERS)
    refs = draw.sample("abcd", draw.randint(1, 3))
    terms = {ref: draw.choice((1.0, -1.0, 1e300, -1e-300)) for ref in refs}
    kind = draw.choice(("value", "value", "divergence"))
    table = stated(papers.Expected("x", terms, low, high, "", kind))
    for each in statements.judge(table, {ref: cell() for ref in "abcd"}):
      assert each.reason or each.verdict != "undecided"
      assert each.p_holm is None or 0 <= each.p_holm <= 1
      found.add(each.verdict)
  assert found == {"confirmed", "contradicted", "undecided"}
