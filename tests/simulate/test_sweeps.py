"""Verdicts on simulated sweeps: their error, their power, their sentence."""

import dataclasses
import math

import pytest
from scipy import special

from normjax import errors, simulate
from normjax.record.comparison import Search, Tuning
from normjax.simulate import Protocol, Surface


def _is_near(share, expected, sweeps, sds=3.5):
  return abs(share - expected) < sds * math.sqrt(
    expected * (1 - expected) / sweeps
  )


@pytest.mark.parametrize(
  ("methods", "seeds", "expected"), [(26, 3, 0.59), (14, 5, 0.39)]
)
def test_many_unadjusted_tests_err_often_and_holm_seldom(
  methods, seeds, expected
):
  found = simulate.error_of(methods, seeds, tuning="none")
  assert _is_near(found.unadjusted_family_wise, expected, found.sweeps)
  assert found.family_wise < 0.05 + 3 * found.family_wise_se
  assert _is_near(found.per_comparison, 0.05, found.sweeps)
  assert found.best < 0.05


@pytest.mark.parametrize(("methods", "seeds"), [(14, 5), (26, 3), (5, 4)])
def test_tuning_for_each_seed_keeps_the_error_and_shared_tuning_does_not(
  methods, seeds
):
  per_seed = simulate.error_of(methods, seeds)
  shared = simulate.error_of(methods, seeds, tuning="shared")
  assert per_seed.family_wise <= 0.06
  assert shared.family_wise > per_seed.family_wise + 2 * shared.family_wise_se


def test_one_shared_choice_errs_more_the_more_final_seeds_there_are():
  options = {"tuning": "shared", "second_pass": False, "factor": 2.0}
  few, many = (simulate.error_of(2, n, **options) for n in (5, 10))
  assert 0.10 < few.family_wise < many.family_wise - 0.05


def test_an_effect_is_found_and_is_no_error():
  protocol = Protocol(6, 5)
  equal = simulate.run(protocol)
  one = simulate.run(protocol, better=1, effect=1.0)
  three = simulate.run(protocol, better=1, effect=3.0)
  assert equal.power is None
  assert one.best is None
  assert "with 6 methods, 1 better by 3 sd, n = 5," in str(three)
  assert f" err; {100 * three.power:.1f}% of the methods" in str(three)
  assert 0.05 < one.power < one.unadjusted_power < three.power
  assert three.family_wise < 0.06
  # Where all are better there is no equal to err on.
  alone = simulate.run(Protocol(2, 5), better=1, effect=3.0)
  assert alone.per_comparison is None
  assert alone.family_wise < 0.005


def test_power_without_tuning_is_that_of_a_paired_t_test():
  effect, n = 1.0, 5
  found = simulate.run(Protocol(2, n, tuning="none"), better=1, effect=effect)
  t = special.stdtrit(n - 1, 0.975)
  power = 1 - special.nctdtr(n - 1, effect * math.sqrt(n), t)
  assert _is_near(found.power, power, found.sweeps)


def test_what_all_methods_share_on_a_seed_changes_no_verdict():
  plain, shared = (
    simulate.run(Protocol(4, 3), Surface(shared_sd=sd)) for sd in (0.0, 9.0)
  )
  assert abs(plain.family_wise - shared.family_wise) < 0.02


def test_a_sharp_valley_needs_a_finer_grid():
  sharp = Surface((20.0, 40.0))
  coarse = simulate.error_of(6, 5, surface=sharp)
  fine = simulate.error_of(6, 5, surface=sharp, factor=1.5, values=5)
  assert fine.family_wise < 0.06 < coarse.family_wise


def test_the_same_sweep_has_the_same_error():
  simulate.error_of.cache_clear()
  first = simulate.error_of(3, 3)
  simulate.error_of.cache_clear()
  assert simulate.error_of(3, 3) == first


def test_a_large_sweep_is_simulated_less_often():
  assert simulate.error_of(40, 20, max_extensions=0).sweeps < 4000


@pytest.mark.parametrize(("methods", "seeds"), [(1, 5), (4, 1)])
def test_where_nothing_is_compared_nothing_errs(methods, seeds):
  found = simulate.error_of(methods, seeds)
  assert (found.family_wise, found.power) == (0.0, None)


def test_the_sentence_says_the_protocol_and_the_error():
  found = simulate.error_of(
    4, 3, tuning="shared", tuning_seeds=3, values=5, factor=2.0
  )
  assert str(found) == (
    "Simulated error (runs of a small decoder): with 4 equal methods, n = 3,"
    " tuned once, with 3 seeds on 5 values a factor 2 apart and a second pass,"
    f" {found.family_wise * 100:.1f}% (± {found.family_wise_se * 100:.1f}%) of"
    " sweeps say better or worse of some method."
  )


def test_quasi_random_points_keep_the_error_and_cost_power():
  cliff = Surface(cliff=10.0)
  points = {"search": "quasi_random", "values": 8}
  found = simulate.error_of(6, 5, surface=cliff, **points)
  assert found.family_wise < 0.06
  assert str(found).startswith("Simulated error: with 6 equal methods")
  assert " on 8 quasi-random points about a factor 3 apart," in str(found)
  shared = simulate.error_of(6, 5, tuning="shared", **points)
  assert shared.family_wise > 0.2
  power = [
    simulate.run(Protocol(2, 10, **options), better=1, sweeps=2000).power
    for options in ({}, points)
  ]
  assert power[1] < power[0]


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"methods": 0}, "methods must be a whole number >= 1, got 0"),
    ({"seeds": 2.0}, "seeds must be a whole number"),
    ({"values": 1}, "values must be a whole number >= 2"),
    ({"factor": 1.0}, "factor must be > 1"),
    ({"search": "by hand"}, "search must be one of grid, quasi_random"),
    ({"tuning": "often"}, "tuning must be one of per_seed, shared, none"),
  ],
)
def test_a_protocol_that_cannot_be_is_named(options, said):
  with pytest.raises(errors.UserError, match=said):
    simulate.error_of(**{"methods": 3, "seeds": 3, **options})


def test_a_surface_or_an_effect_that_cannot_be_is_named():
  with pytest.raises(errors.UserError, match=r"Surface\.curvature"):
    Surface((2.0, 1.0))
  with pytest.raises(errors.UserError, match=r"Surface\.own_share"):
    Surface(own_share=1.0)
  with pytest.raises(errors.UserError, match="3 methods cannot be better"):
    simulate.run(Protocol(3, 3), better=3)


def test_a_cliff_needs_a_finer_grid():
  cliff = Surface(cliff=10.0)
  coarse, fine = (
    simulate.error_of(6, 5, surface=cliff, factor=factor)
    for factor in (3.0, 2.0)
  )
  assert fine.family_wise < 0.07 < coarse.family_wise


def test_a_protocol_that_is_not_simulated_says_so():
  tunings = (Tuning((1000,), 5, 0), Tuning((1001,), 5, 1))
  coordinate = Search("coordinate", True, 2, 3, 3.0)
  said = simulate.sentence(2, 2, tunings, coordinate)
  assert said.endswith("is not simulated: the search is 'coordinate'.")
  grid = dataclasses.replace(coordinate, name="grid")
  said = simulate.sentence(2, 2, tunings, grid, exact=True)
  assert said.endswith("verdicts are of the signed-rank test.")
  assert simulate.sentence(2, 2, (), None) == ""
  assert simulate.sentence(2, 1, tunings, coordinate) == ""
