"""Searches: how a tuning looks for the best values of all methods at once.

A search is a generator. It yields rounds of trials and is sent their scores;
what it returns are the values that it found. So a tuning is a pure function of
results, asked anew whenever some have come, and all methods are in one round:
that is how their budgets stay equal.

A search is one file and one line of the table, a function

    search(grids, tune, *, own, seed) -> Rounds

with the first grid of each method by label, the `Tune`, each method's own value
per axis, and the first seed of the trials. It raises UserError when it is
called where the budgets would differ.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

from normjax.registry import Registry

SEARCHES = Registry(
  "search",
  {
    "grid": "normjax.sweep.search.grid:search",
    "quasi_random": "normjax.sweep.search.quasi_random:search",
    "coordinate": "normjax.sweep.search.coordinate:search",
  },
)

Values = tuple[Any, ...]  # One per axis, in the order of the space.
Axes = dict[str, Values]
# Lower is better; inf diverged, None failed.
Scores = Mapping[Values, float | None]


class Round(NamedTuple):
  """Trials to run before the search can go on.

  Attributes:
    trials: of each method; those of earlier rounds cost nothing.
    later: trials per method that will follow in any case.
  """

  trials: Mapping[str, Sequence[Values]]
  later: int = 0


class Found(NamedTuple):
  """What a search ends with, for one method.

  Attributes:
    values: the best.
    on_edge: one of them is the outermost that was tried.
  """

  values: Values
  on_edge: bool


# Sent: the scores so far, of each method.
Rounds = Generator[Round, Mapping[str, Scores], dict[str, Found]]
