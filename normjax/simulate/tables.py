"""The tables of `docs/guides/trust.md`, simulated."""

import math
from collections.abc import Iterable, Iterator, Sequence

from normjax.simulate import decisions
from normjax.simulate.protocol import (
  NONE,
  PER_SEED,
  QUASI_RANDOM,
  SHARED,
  Protocol,
)
from normjax.simulate.surface import Surface
from normjax.simulate.sweeps import run

SWEEPS = 10_000
# Methods and final seeds: two methods, and the published sweeps' sizes.
SIZES = ((2, 5), (2, 10), (14, 5), (14, 10), (26, 3))
TUNINGS = {
  "shared, 1 seed, no second pass": {
    "tuning": SHARED,
    "second_pass": False,
  },
  "shared, 1 seed": {"tuning": SHARED},
  "shared, 3 seeds": {"tuning": SHARED, "tuning_seeds": 3},
  "per seed, no second pass": {"tuning": PER_SEED, "second_pass": False},
  "per seed": {"tuning": PER_SEED},
  "per seed, quasi-random": {
    "tuning": PER_SEED,
    "search": QUASI_RANDOM,
    "values": 8,
  },
}
FACTORS = (2.0, 3.0)
SURFACE_TUNINGS = (
  "shared, 1 seed",
  "per seed",
  "per seed, quasi-random",
)
_LOW, _HIGH = Surface().curvature
SURFACES = {
  "as measured": Surface(),
  "3 times as steep above the optimum": Surface(cliff=3.0),
  "10 times as steep above the optimum": Surface(cliff=10.0),
  "a third of the curvature": Surface((_LOW / 3, _HIGH / 3)),
  "three times the curvature": Surface((3 * _LOW, 3 * _HIGH)),
  "the same curvature for all": Surface((_LOW, _LOW)),
  "half of the noise common to all rates": Surface(own_share=0.5),
  "first guesses off by up to a factor 9": Surface(
    misplaced=2 * Surface().misplaced
  ),
}
# What a rate one notch off the optimum costs, in runs' standard deviations.
NOTCH_COSTS_SD = (2, 4, 8, 16, 32)
NOTCH_SEEDS = (3, 5, 10)
EFFECTS_SD = (1.0, 2.0, 3.0)
DECISION_SEEDS = (3, 5, 6, 10)
DIVERGING = (0.0, 0.1, 0.4)
# Examples of an evaluation, and how many of them are right on average.
COUNTS = ((360, 0.9), (360, 0.98), (360, 0.999), (10_000, 0.95))


def tables(sweeps: int = SWEEPS) -> Iterator[tuple[str, str]]:
  """Name and Markdown of each table, as soon as it is known."""
  yield (
    "Wrong verdicts without tuning, of equal methods",
    _markdown(
      ("methods", "n", "unadjusted", "Holm", "one is best"),
      _corrections(sweeps),
    ),
  )
  sizes = [f"{methods} methods, n = {seeds}" for methods, seeds in SIZES]
  for factor in FACTORS:
    yield (
      f"Wrong verdicts (Holm) with rates a factor {factor:g} apart",
      _markdown(
        ("tuning", *sizes),
        (
          [name, *_errors(sweeps, factor=factor, **options)]
          for name, options in TUNINGS.items()
        ),
      ),
    )
  yield (
    "The same for 14 methods and n = 5, on other surfaces",
    _markdown(
      (
        "surface",
        *(f"{t}, factor {f:g}" for t in SURFACE_TUNINGS for f in FACTORS),
      ),
      _surfaces(sweeps),
    ),
  )
  yield (
    "The same for 14 methods, tuned per seed, by what a notch costs",
    _markdown(
      ("a notch costs", *(f"n = {n}" for n in NOTCH_SEEDS)), _notches(sweeps)
    ),
  )
  effects = [f"{effect:g} sd" for effect in EFFECTS_SD]
  effects += ["1 sd, quasi-random", "1 sd, untuned"]
  yield (
    "Power: the share of methods, better by so much, that are found (Holm)",
    _markdown(("methods", "n", *effects), _powers(sweeps)),
  )
  yield (
    "Comparisons of two equal methods that are decided",
    _markdown(
      ("metric and test", *(f"n = {n}" for n in DECISION_SEEDS)),
      _decisions(sweeps),
    ),
  )


def _corrections(sweeps: int) -> Iterator[list[str]]:
  for methods, seeds in SIZES:
    found = run(Protocol(methods, seeds, tuning=NONE), sweeps=sweeps)
    yield [
      str(methods),
      str(seeds),
      _share(found.unadjusted_family_wise),
      _share(found.family_wise),
      _share(found.best),
    ]


def _errors(sweeps: int, **options) -> Iterator[str]:
  for methods, seeds in SIZES:
    found = run(Protocol(methods, seeds, **options), sweeps=sweeps)
    yield _share(found.family_wise)


def _surfaces(sweeps: int) -> Iterator[list[str]]:
  for name, surface in SURFACES.items():
    cells = []
    for tuning in SURFACE_TUNINGS:
      for factor in FACTORS:
        protocol = Protocol(14, 5, factor=factor, **TUNINGS[tuning])
        found = run(protocol, surface, sweeps=sweeps)
        cells.append(_share(found.family_wise))
    yield [name, *cells]


def _notches(sweeps: int) -> Iterator[list[str]]:
  for cost in NOTCH_COSTS_SD:
    cells = []
    for seeds in NOTCH_SEEDS:
      protocol = Protocol(14, seeds)
      curvature = cost / math.log(protocol.factor) ** 2
      surface = Surface((curvature, 2 * curvature))
      found = run(protocol, surface, sweeps=sweeps)
      cells.append(_share(found.family_wise))
    yield [f"{cost} to {2 * cost} sd", *cells]


def _powers(sweeps: int) -> Iterator[list[str]]:
  for methods, seeds in SIZES:
    cells = []
    for effect in EFFECTS_SD:
      found = run(
        Protocol(methods, seeds), better=1, effect=effect, sweeps=sweeps
      )
      cells.append(_share(found.power))
    for options in (TUNINGS["per seed, quasi-random"], {"tuning": NONE}):
      protocol = Protocol(methods, seeds, **options)
      found = run(protocol, better=1, sweeps=sweeps)
      cells.append(_share(found.power))
    yield [str(methods), str(seeds), *cells]


def _decisions(sweeps: int) -> Iterator[list[str]]:
  for chance in DIVERGING:
    cells = [
      _share(decisions.with_divergence(seeds, chance, sweeps))
      for seeds in DECISION_SEEDS
    ]
    yield [f"{chance:.0%} of runs diverge, signed-rank test", *cells]
  for examples, accuracy in COUNTS:
    cells = [
      _share(decisions.of_counts(seeds, examples, accuracy, sweeps))
      for seeds in DECISION_SEEDS
    ]
    yield [
      f"accuracy {accuracy:.1%} of {examples:,} examples, t-test",
      *cells,
    ]


def _share(value: float) -> str:
  return f"{value:.3f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
