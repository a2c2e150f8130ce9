"""Coordinate descent: one axis after the other, the rest at the best so far.

After phase I of arXiv:2509.02046, which tunes every number of every optimizer
so. Read: its abstract and its code (marin-community/marin,
experiments/optimizer_sweep), not the paper's text. There a round tries the
values of every axis around one configuration, and the best becomes the next
one, until the approximately best ones (within 0.005) have been looked around.
Here the axes follow each other, so that each starts from what those before it
found.

A search starts at each method's own value where the grid has it, else at the
middle one. A phase visits the axes in the order of the space and tries the
values of one. Where the best of some method lies on an edge of the axis, it
grows by a notch for all that look along it. The next phase visits the axes
again behind which another has moved since, until nothing moves or the phases
are used up; then comes the second pass.

Budgets: all methods may use the same phases, and their axes have the same
numbers of values. One whose best no longer moves spends nothing more: its next
trials would be those that it has had. The budget that is printed is the most
that a method has spent.
"""

from collections.abc import Generator, Mapping

from normjax import errors
from normjax.sweep import tune as tune_lib
from normjax.sweep.search import (
  Axes,
  Found,
  Round,
  Rounds,
  Scores,
  Values,
  second_pass,
)
from normjax.sweep.tune_spec import Tune

PHASES = 2
# The grids, the best values and on which sides they lie on an edge.
_Looked = tuple[dict[str, Axes], dict[str, Values], dict[str, dict[int, int]]]


def search(
  grids: Mapping[str, Axes], tune: Tune, *, own: Mapping[str, Values], seed: int
) -> Rounds:
  """The search; see `normjax.sweep.search`.

  Raises:
    UserError: two methods' axes have different numbers of values.
  """
  del seed
  if not tune_lib.are_level(grids):
    labels = list(grids)
    other = next(
      label
      for label in labels
      if not tune_lib.are_level({k: grids[k] for k in (labels[0], label)})
    )
    sizes = [
      [len(v) for v in grids[label].values()] for label in (labels[0], other)
    ]
    raise errors.UserError(
      "every method gets the same number of trials, and coordinate descent"
      f" needs as many values on each axis: {labels[0]!r} has {sizes[0]},"
      f" {other!r} has {sizes[1]}."
    )
  return _rounds(dict(grids), tune, own)


def start(grid: Axes, own: Values) -> Values:
  """Where a method's search begins: its own values, else the middle ones."""
  return tuple(
    value if value in values else values[(len(values) - 1) // 2]
    for values, value in zip(grid.values(), own, strict=True)
  )


def line(grid: Axes, best: Values, axis: int) -> list[Values]:
  """The trials along one axis."""
  values = list(grid.values())[axis]
  return [(*best[:axis], value, *best[axis + 1 :]) for value in values]


def _rounds(
  grids: dict[str, Axes], tune: Tune, own: Mapping[str, Values]
) -> Rounds:
  best = {label: start(grid, own[label]) for label, grid in grids.items()}
  num_axes = len(next(iter(grids.values())))
  # The axes along which a method has not looked since another moved.
  stale = {label: set(range(num_axes)) for label in grids}
  edges: dict[str, dict[int, int]] = {label: {} for label in grids}
  after = second_pass.size(grids) if tune.second_pass else 0
  for phase in range(tune.phases or PHASES):
    for axis in range(num_axes):
      active = [label for label in grids if axis in stale[label]]
      if not active:
        continue
      # Of the first phase, which no method can leave out.
      coming = 0 if phase else _num_new(grids[active[0]], axis + 1)
      starts = {label: best[label] for label in active}
      grown, chosen, sides = yield from _along(
        grids, starts, axis, tune, coming + after
      )
      grids |= grown
      for label in active:
        stale[label].discard(axis)
        edges[label].pop(axis, None)
        edges[label] |= sides[label]
        if chosen[label] != best[label]:
          stale[label] |= {*range(num_axes)} - {axis}
          best[label] = chosen[label]
    if not any(stale.values()):
      break
  if tune.second_pass:
    return (yield from second_pass.rounds(grids, best, tune.limits))
  return {label: Found(best[label], bool(edges[label])) for label in grids}


def _along(
  grids: Mapping[str, Axes],
  starts: Mapping[str, Values],
  axis: int,
  tune: Tune,
  later: int,
) -> Generator[Round, Mapping[str, Scores], _Looked]:
  """Tries the values of one axis, which may grow, for some of the methods."""
  grids = {label: grids[label] for label in starts}
  extensions = 0
  while True:
    lines = {label: line(grids[label], starts[label], axis) for label in starts}
    scores = yield Round(lines, later)
    chosen, sides = {}, {}
    for label, tried in lines.items():
      known = {values: scores[label][values] for values in tried}
      chosen[label] = tune_lib.best(tried, known)
      on = tune_lib.edges(grids[label], known, chosen[label], tune.limits)
      sides[label] = {axis: on[axis]} if axis in on else {}
    if extensions == tune.max_extensions or not any(sides.values()):
      return grids, chosen, sides
    grown = tune_lib.grow_all(grids, chosen, sides, tune.limits)
    if grown is None:
      return grids, chosen, sides
    grids = grown
    extensions += 1


def _num_new(grid: Axes, first: int) -> int:
  """Trials on the axes from `first` on, without the best so far."""
  return sum(len(values) - 1 for values in list(grid.values())[first:])
