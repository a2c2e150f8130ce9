"""What a sweep and its report say in the same words: methods and their keys."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a diverged final run is: a verdict of its method, or the worst rank.
VERDICT, WORST = "verdict", "worst"
DIVERGENCE = (VERDICT, WORST)


@dataclasses.dataclass(frozen=True)
class Choice:
  """What one tuning chose for one method.

  Attributes:
    values: dotted path to chosen value.
    on_edge: one of them is the outermost that was tried.
    for_seed: the final seed that they are for; None: all of them.
  """

  values: Mapping[str, Any]
  on_edge: bool = False
  for_seed: int | None = None


@dataclasses.dataclass(frozen=True)
class Tuning:
  """One tuning, in which all methods have equal budgets.

  Attributes:
    seeds: of the trials; a trial's score is the mean over them.
    trials: runs per method, as far as they are known. Where a search may end
      early, the most that a method has.
    for_seed: the final seed that it chooses for; None: for all of them.
    later: of the trials, those that results have yet to decide.
  """

  seeds: tuple[int, ...]
  trials: int = 0
  for_seed: int | None = None
  later: int = 0


@dataclasses.dataclass(frozen=True)
class Search:
  """How each tuning looks for the best values.

  Attributes:
    name: "grid", "quasi_random" or "coordinate".
    second_pass: whether two more trials per numeric axis lie around the best.
    max_extensions: how often the grids may grow.
    num_values: of the longest numeric axis of the baseline's first grid; 0
      where there is none.
    factor: of neighbours on it, on average; None where they have no ratio.
  """

  name: str = "grid"
  second_pass: bool = False
  max_extensions: int = 0
  num_values: int = 0
  factor: float | None = None


@dataclasses.dataclass(frozen=True)
class Method:
  """One row of the comparison.

  Attributes:
    label: its name in the plan.
    overrides: dotted path to value, over the base config.
    choices: of the tunings that are over, in the order of final seeds.
  """

  label: str
  overrides: Mapping[str, Any]
  choices: tuple[Choice, ...] = ()

  @property
  def on_edge(self) -> bool:
    """Whether some chosen value lies on an edge of its grid."""
    return any(choice.on_edge for choice in self.choices)

  def edges(self) -> str:
    """The method, with the final seeds whose choice is on an edge; or ""."""
    seeds = [c.for_seed for c in self.choices if c.on_edge]
    known = [str(seed) for seed in seeds if seed is not None]
    which = f" (seed{'s' * (len(known) > 1)} {', '.join(known)})"
    return self.label + (which if known else "") if seeds else ""

  def tuned_for(self, seed: int) -> Mapping[str, Any] | None:
    """The chosen values of a final seed; None where there are none."""
    for choice in self.choices:
      if choice.for_seed in (seed, None):
        return choice.values
    return None

  def chosen(self, key: str) -> list[Any]:
    """The values of a key, one per choice that has it."""
    return [c.values[key] for c in self.choices if key in c.values]


def method(said: Mapping[str, Any]) -> Method:
  """A method as `plan.json` says it.

  Plans of earlier versions have one choice for all seeds, in two keys.
  """
  if "choices" in said:
    choices = [_of(Choice, choice) for choice in said["choices"]]
  elif said.get("tuned"):
    choices = [Choice(said["tuned"], said.get("on_edge", False))]
  else:
    choices = []
  return Method(said["label"], said["overrides"], tuple(choices))


def tunings(plan: Mapping[str, Any]) -> tuple[Tuning, ...]:
  """The tunings of a `plan.json`; those of earlier versions were shared."""
  if "tunings" in plan:
    return tuple(
      Tuning(tuple(t["seeds"]), t["trials"], t["for_seed"], t["later"])
      for t in plan["tunings"]
    )
  seeds = {p["seed"] for p in plan["points"] if p["stage"] == "tune"}
  if not seeds:
    return ()
  return (Tuning(tuple(sorted(seeds)), plan["trials_per_method"]),)


def search(plan: Mapping[str, Any]) -> Search | None:
  """How a `plan.json` searches; None where it does not say."""
  said = plan.get("search")
  return _of(Search, said) if said else None


def _of(kind: type, said: Mapping[str, Any]) -> Any:
  """An object of its own keys; others are of a version to come."""
  names = [field.name for field in dataclasses.fields(kind)]
  return kind(**{name: said[name] for name in names if name in said})


def budget(every: Sequence[Tuning], num_methods: int, by: Search | None) -> str:
  """What tuning may spend, in words; "" where nothing is tuned.

  Args:
    every: tuning of the sweep.
    num_methods: that are tuned, the baseline too.
    by: how they search; None: not known.
  """
  if not every:
    return ""
  # Of a search that may end early, the budget is the most that one has had.
  most = "at most " if by is not None and by.name == "coordinate" else ""
  counts = sorted({tuning.trials for tuning in every})
  total = sum(tuning.trials for tuning in every)
  said = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
  said = f"{most}{said} tuning trials per method"
  if every[0].for_seed is not None:
    said += f" and final seed, {most}{total:,} per method"
  return f"{said}, {most}{total * num_methods:,} in all"


def differing_keys(flat: Sequence[Mapping[str, Any]]) -> list[str]:
  """Keys whose value, or presence, is not the same in every mapping.

  Args:
    flat: dotted path to value, of each.
  """
  keys = dict.fromkeys(key for leaves in flat for key in leaves)
  return [
    key
    for key in keys
    if not all(key in leaves for leaves in flat)
    or len({json.dumps(leaves[key]) for leaves in flat}) > 1
  ]


def short_names(keys: Iterable[str]) -> dict[str, str]:
  """Dotted path to the shortest of its ends that no other path has.

  `norm.name` reads better as `norm`.
  """
  parts = {key: key.removesuffix(".name").split(".") for key in keys}

  def short(key: str) -> str:
    own = parts[key]
    for size in range(1, len(own) + 1):
      end = own[-size:]
      if sum(each[-size:] == end for each in parts.values()) == 1:
        return ".".join(end)
    return key

  return {key: short(key) for key in parts}


@dataclasses.dataclass(frozen=True)
class Measure:
  """By what runs are compared.

  Attributes:
    metric: of the last evaluation.
    mode: "min" or "max".
    others: that are told beside it.
  """

  metric: str = "eval/loss"
  mode: str = "min"
  others: tuple[str, ...] = ()

  def to_json(self) -> dict[str, Any]:
    """What run.json says of a run that no sweep has planned."""
    return {**vars(self), "others": list(self.others)}


MEASURE = "compared_by"  # Of run.json.


def measure(records: Iterable[Mapping[str, Any]]) -> Measure:
  """That of runs without a plan: the loss, unless all say the same other.

  Args:
    records: what their run.json hold.
  """
  said = [record.get(MEASURE) or Measure().to_json() for record in records]
  compared = {(own["metric"], own["mode"]) for own in said}
  if len(compared) != 1:
    return Measure()
  others = dict.fromkeys(name for own in said for name in own["others"])
  return Measure(*compared.pop(), tuple(others))
