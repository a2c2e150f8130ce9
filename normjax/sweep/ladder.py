"""A comparison over sizes and budgets, as a sweep asks for it; see `rows`."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from normjax import configure, errors
from normjax.sweep import checks
from normjax.sweep.space import Overrides

STEPS_KEY = "train.num_steps"
BATCH_KEY = "train.batch_size"
_UNITS = ("steps", "tokens")
_RULES = ("constant", "width")


@dataclasses.dataclass(frozen=True)
class Ladder:
  """Sizes and budgets at which every method is compared.

  Attributes:
    sizes: label to overrides, as `{"64": {"model.model_dim": 64}, …}`, the
      smallest first; two or more.
    budgets: of training; two or more. Three and more carry a floor of the
      loss.
    baseline_budgets: further ones, of the baseline alone. A faster method has
      losses for which the baseline needs more than the largest budget, and
      there its curve would be extrapolated.
    unit: of the budgets: "steps", or "tokens", which are steps times
      `train.batch_size` times `data.sequence_length`.
    tuned_at: the size at which `Sweep.tune` tries its values; None: the
      middle one, of an even number the smaller.
    tuned_budget: the budget there; None: the middle one.
    transfer: how the values of `tuned_at` are carried to the other sizes, for
      all methods or by label or `optimizer.name` ("constant" for the others).
      "constant": as they are. "width": the rate of the matrices times the
      width at `tuned_at` over the width: `optimizer.matrix_scale` where the
      optimizer has it, else `optimizer.learning_rate`, while
      `optimizer.fallback_learning_rate` (embeddings, head, gains, biases)
      stays. An optimizer without a fallback has one rate for all parameters,
      and that is scaled. No rule changes anything with depth or budget.
    width: dotted path of the width that "width" reads.
  """

  sizes: Mapping[str, Overrides]
  budgets: Sequence[int]
  unit: str = "steps"
  tuned_at: str | None = None
  tuned_budget: int | None = None
  transfer: str | Mapping[str, str] = "constant"
  width: str = "model.model_dim"
  baseline_budgets: Sequence[int] = ()

  def __post_init__(self):
    """Checks what can be checked without methods and a config."""
    object.__setattr__(self, "sizes", _sizes(self.sizes))
    object.__setattr__(self, "budgets", _budgets(self.budgets))
    more = _whole("Ladder.baseline_budgets", self.baseline_budgets)
    if shared := sorted({*more} & {*self.budgets}):
      raise errors.UserError(
        f"Ladder.baseline_budgets has {shared}, which Ladder.budgets has too."
      )
    object.__setattr__(self, "baseline_budgets", more)
    checks.one_of("Ladder.unit", self.unit, _UNITS)
    at = _chosen("tuned_at", self.tuned_at, list(self.sizes))
    budget = _chosen("tuned_budget", self.tuned_budget, list(self.budgets))
    object.__setattr__(self, "tuned_at", at)
    object.__setattr__(self, "tuned_budget", budget)
    checks.string("Ladder.width", self.width)
    if not isinstance(self.transfer, str | Mapping):
      raise errors.UserError(
        "Ladder.transfer must be a rule, or a mapping from method or"
        f" optimizer to a rule, got {self.transfer!r}."
      )
    rules = (
      [self.transfer]
      if isinstance(self.transfer, str)
      else self.transfer.values()
    )
    for rule in rules:
      _check_rule(rule)

  @property
  def keys(self) -> set[str]:
    """What the ladder sets."""
    return {STEPS_KEY} | {key for own in self.sizes.values() for key in own}


def check(ladder: Any, sweep: Any) -> None:
  """What a ladder asks of its sweep, as far as no config is needed.

  Args:
    ladder: `Sweep.ladder`.
    sweep: the sweep, for its methods, tuning, metric and mode.

  Raises:
    UserError: names what does not fit.
  """
  if not isinstance(ladder, Ladder):
    raise errors.UserError(f"Sweep.ladder must be a Ladder, got {ladder!r}.")
  if len(sweep.methods) < 2:
    raise errors.UserError(
      "Sweep.ladder needs two or more methods: its speed-up is over the"
      " baseline."
    )
  if sweep.mode != "min" or "(" in sweep.metric:
    raise errors.UserError(
      "Sweep.ladder follows a loss over budgets: Sweep.metric must be one and"
      f" Sweep.mode 'min', got {sweep.metric!r} and {sweep.mode!r}."
    )
  for method in sweep.methods:
    for key in method:
      if key in ladder.keys:
        raise errors.UserError(
          f"method {dict(method)!r} sets {key!r}, which Sweep.ladder sets: its"
          " value would never be used."
        )
      if key == BATCH_KEY and ladder.unit == "steps":
        raise errors.UserError(
          f"method {dict(method)!r} sets {key!r}: in as many steps it sees"
          " other amounts of data. Give Ladder(unit='tokens')."
        )
  if ladder.unit == "steps" and BATCH_KEY in ladder.keys:
    raise errors.UserError(
      f"Ladder.sizes sets {BATCH_KEY!r}: in as many steps a size sees other"
      " amounts of data. Give Ladder(unit='tokens')."
    )
  space = sweep.tune.space if sweep.tune is not None else ()
  if not callable(space):  # Else each method's own is checked.
    check_space(ladder, space)


def check_space(ladder: Ladder, space: Iterable[str]) -> None:
  """Raises UserError for keys of a space that the ladder sets."""
  for key in space:
    if key in ladder.keys:
      raise errors.UserError(
        f"Tune.space varies {key!r}, which Sweep.ladder sets."
      )


def check_different(configs: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises UserError for two labels of one size.

  Args:
    configs: what each size is, by label.
  """
  seen: list[tuple[str, Mapping[str, Any]]] = []
  for size, own in configs.items():
    for other, config in seen:
      if config == own:
        raise errors.UserError(
          f"Ladder.sizes {other!r} and {size!r} are the same size."
        )
    seen.append((size, own))


def _sizes(sizes: Any) -> dict[str, Overrides]:
  if not isinstance(sizes, Mapping):
    raise errors.UserError(
      f"Ladder.sizes must be a mapping from label to overrides, got {sizes!r}."
    )
  found: dict[str, Overrides] = {}
  for label, own in sizes.items():
    checks.string("a label in Ladder.sizes", label)
    if not isinstance(own, Mapping) or not own:
      raise errors.UserError(
        f"Ladder.sizes[{label!r}] must be overrides, got {own!r}."
      )
    for key in ("seed", STEPS_KEY):
      if key in own:
        raise errors.UserError(
          f"Ladder.sizes[{label!r}] sets {key!r}: that is Sweep.seeds' and"
          " Ladder.budgets' to set."
        )
    found[label] = {
      key: checks.plain(f"{key!r} of Ladder.sizes[{label!r}]", value)
      for key, value in own.items()
    }
  if len(found) < 2:
    raise errors.UserError(
      f"Ladder.sizes needs two or more sizes, got {list(found)}: one size says"
      " nothing of how an effect goes with size."
    )
  check_different(found)
  return found


def _budgets(budgets: Any) -> tuple[int, ...]:
  values = _whole("Ladder.budgets", budgets)
  if len(values) < 2:
    raise errors.UserError(
      "Ladder.budgets needs two or more budgets: one gives no curve to read a"
      f" speed-up from, got {budgets!r}."
    )
  return values


def _whole(name: str, budgets: Any) -> tuple[int, ...]:
  """Budgets, the smallest first."""
  values = [
    configure.plain(b) for b in checks.items(name, budgets, "whole numbers")
  ]
  whole = all(type(value) is int and value > 0 for value in values)
  if not whole or len(set(values)) < len(values):
    raise errors.UserError(
      f"{name} needs different whole numbers above 0, got {budgets!r}."
    )
  return tuple(sorted(values))


def _chosen(name: str, value: Any, among: list[Any]) -> Any:
  if value is None:
    return among[(len(among) - 1) // 2]
  if type(value) is not type(among[0]) or value not in among:
    raise errors.UserError(
      f"Ladder.{name} is {value!r}, which is none of {among}."
    )
  return value


def _check_rule(rule: Any) -> None:
  if rule == "mup":
    raise errors.UserError(
      "Ladder.transfer 'mup': no model of normjax has muP's initialization and"
      f" multipliers, without which its rates mean nothing; allowed: {_RULES}."
    )
  if rule not in _RULES:
    raise errors.UserError(
      f"Ladder.transfer has no rule {rule!r}; allowed: {_RULES}."
    )
