"""Part of a sweep: some of its methods, some of its seeds.

The plan stays the whole sweep's; a selection says which of its points one call
runs. The rest can be run later, by the same command without it.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Sequence

from normjax import errors
from normjax.registry import near_misses
from normjax.sweep.plan import Plan, Point

# A regular expression or a part of a label; or those of all labels that one's
# own function chooses.
Methods = str | Callable[[Sequence[str]], Collection[str]]


@dataclasses.dataclass(frozen=True)
class Selection:
  """The points that one call runs.

  Attributes:
    labels: of the methods; their trials too.
    seeds: of final runs, and of the trials that choose for them. Trials that
      choose for all seeds are all needed.
    all_methods: whether no method was left out.
    all_seeds: whether no seed was.
  """

  labels: frozenset[str]
  seeds: frozenset[int]
  all_methods: bool = True
  all_seeds: bool = True

  @property
  def whole(self) -> bool:
    """Whether that is the whole sweep."""
    return self.all_methods and self.all_seeds

  def has(self, point: Point) -> bool:
    """Whether a point is chosen."""
    seed = point.for_seed if point.stage == "tune" else point.seed
    return point.method in self.labels and self.wants(seed)

  def of(self, plan: Plan) -> list[Point]:
    """The points that are chosen, of those that are known."""
    return [point for point in plan.points if self.has(point)]

  def num_points(self, plan: Plan) -> int:
    """How many are chosen, with those that tuning has yet to decide."""
    coming = sum(plan.num_coming(label, self.seeds) for label in self.labels)
    return len(self.of(plan)) + coming

  def wants(self, seed: int | None) -> bool:
    """Whether a final seed is chosen; None stands for all of them."""
    return seed is None or seed in self.seeds


def select(
  labels: Sequence[str],
  all_seeds: Sequence[int],
  methods: Methods | None,
  seeds: Iterable[int] | None,
) -> Selection:
  """What `--methods` and `--seeds` choose.

  Args:
    labels: of all methods.
    all_seeds: of the final runs.
    methods: a regular expression that is searched for in the labels, or a
      part of a label as it is written, or a function that chooses; None: all.
    seeds: None: all.

  Raises:
    UserError: no regular expression, or it matches nothing; a seed that the
      sweep does not have.
  """
  if methods is None:
    chosen: Collection[str] = labels
  elif isinstance(methods, str):
    chosen = matching(labels, methods)
  else:
    chosen = methods(labels)
  wanted = list(all_seeds) if seeds is None else list(seeds)
  for seed in wanted:
    if seed not in all_seeds:
      raise errors.UserError(
        f"--seeds: the sweep has no seed {seed}; its seeds:"
        f" {', '.join(map(str, all_seeds))}."
      )
  if not wanted:
    raise errors.UserError("--seeds: names no seed.")
  return Selection(
    frozenset(chosen),
    frozenset(wanted),
    all_methods=len(chosen) == len(labels),
    all_seeds=set(wanted) == set(all_seeds),
  )


def matching(
  labels: Sequence[str],
  asked: str,
  flag: str = "--methods",
  what: str = "method",
  listed: str = "",
) -> list[str]:
  """The labels in which a pattern, or the text itself, is found.

  Args:
    labels: of all.
    asked: the pattern.
    flag: that gave it, for messages.
    what: is chosen, in the singular.
    listed: what a message says there is; "": the labels.

  Raises:
    UserError: no regular expression, or it matches nothing.
  """
  try:
    pattern = re.compile(asked)
  except re.error as error:
    raise errors.UserError(
      f"{flag}={asked!r} is not a regular expression: {error}."
    ) from error
  found = [label for label in labels if asked in label or pattern.search(label)]
  # A text that is empty, as of an unset variable, was not meant as all.
  if not found or not asked:
    raise errors.UserError(
      f"{flag}={asked!r} matches no {what}."
      f"{near_misses(asked, [*labels, *_words(labels)])}"
      f" {listed or f'{what.capitalize()}s: {", ".join(labels)}'}."
    )
  return found


def _words(labels: Iterable[str]) -> list[str]:
  """The parts of labels: a pattern names one of them more often than all."""
  splits = (r"[ +=]+", r"[ +=_]+")
  return [w for split in splits for t in labels for w in re.split(split, t)]
