"""A comparison over sizes and budgets: its rows, and how rates are carried.

Every method has a row at every size and budget, `muon @ 64 x 300 steps`. Each
is a run of its own, whose schedule ends at its budget. The methods are tuned
at one of these rungs alone; the others take the values from there by a rule.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normjax import configure, errors
from normjax.record.rungs import Rung, Rungs
from normjax.registry import near_misses
from normjax.sweep import checks
from normjax.sweep.space import Overrides

STEPS_KEY = "train.num_steps"
_BATCH_KEY = "train.batch_size"
_LENGTH_KEY = "data.sequence_length"
_UNITS = ("steps", "tokens")
_RULES = ("constant", "width")
_RATE = "optimizer.learning_rate"
_MATRIX_SCALE = "optimizer.matrix_scale"
_FALLBACK = "optimizer.fallback_learning_rate"


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
    if self.unit not in _UNITS:
      raise errors.UserError(
        f"Ladder.unit must be 'steps' or 'tokens', got {self.unit!r}."
      )
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
      if key == _BATCH_KEY and ladder.unit == "steps":
        raise errors.UserError(
          f"method {dict(method)!r} sets {key!r}: in as many steps it sees"
          " other amounts of data. Give Ladder(unit='tokens')."
        )
  if ladder.unit == "steps" and _BATCH_KEY in ladder.keys:
    raise errors.UserError(
      f"Ladder.sizes sets {_BATCH_KEY!r}: in as many steps a size sees other"
      " amounts of data. Give Ladder(unit='tokens')."
    )
  space = sweep.tune.space if sweep.tune is not None else ()
  for key in () if callable(space) else space:
    if key in ladder.keys:
      raise errors.UserError(
        f"Tune.space varies {key!r}, which Sweep.ladder sets."
      )


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of a ladder.

  Attributes:
    rungs: what each row is.
    methods: the overrides of each.
  """

  rungs: Rungs
  methods: Mapping[str, Overrides]
  _scales: Mapping[str, Mapping[str, float]]
  _kept: Mapping[str, Overrides]

  def tuned_row_of(self, method: str) -> str:
    """The row at which a method is tuned."""
    return self.rungs.row(method, *self.rungs.tuned_at)

  def carried(self, label: str, values: Overrides) -> Overrides:
    """The values of a row, from those that were tuned.

    Args:
      label: of the row.
      values: chosen for `rungs.tuned_row(label)`; {} where nothing is tuned.
    """
    kept = self._kept[label]
    own = {**kept, **values}
    # A fallback without a rate of its own had the one that is scaled.
    if _FALLBACK in kept and _RATE in values:
      own[_FALLBACK] = values.get(_FALLBACK, values[_RATE])
    scales = self._scales[label]
    return {key: v * scales[key] if key in scales else v
            for key, v in own.items()}  # fmt: skip


def expand(
  ladder: Ladder,
  names: Mapping[str, Overrides],
  baseline: str | None,
  resolve: Callable[[Overrides], dict[str, Any]],
) -> Rows:
  """The rows of every method, size and budget, a method's sizes together.

  Args:
    ladder: of the sweep.
    names: label of a method to its overrides.
    baseline: its label.
    resolve: makes the plain config of overrides.

  Raises:
    UserError: sizes that are one, tokens that are no whole number of steps,
      a rule for nobody, or one that has no width to go by.
  """
  rows: dict[str, Rung] = {}
  methods: dict[str, Overrides] = {}
  scales: dict[str, dict[str, float]] = {}
  kept: dict[str, Overrides] = {}
  rules = _rules(ladder, names, resolve)
  texts = {}
  for name, method in names.items():
    configs = {
      size: dict(configure.leaves(resolve({**method, **own})))
      for size, own in ladder.sizes.items()
    }
    _check_different(configs)
    texts[name], scaled, kept_here = _rule(ladder, rules[name], configs)
    budgets = [*ladder.budgets]
    budgets += ladder.baseline_budgets if name == baseline else ()
    for size, own in ladder.sizes.items():
      for budget in sorted(budgets):
        label = f"{name} @ {size} x {budget} {ladder.unit}"
        checks.label_length(label)
        rows[label] = Rung(name, size, budget)
        steps = _steps(ladder, budget, configs[size])
        methods[label] = {**method, **own, STEPS_KEY: steps}
        # At the size that is tuned nothing is scaled.
        scales[label] = scaled[size]
        kept[label] = kept_here if size != ladder.tuned_at else {}
  at = ladder.tuned_at, ladder.tuned_budget
  return Rows(Rungs(rows, ladder.unit, at, texts), methods, scales, kept)


def _rules(
  ladder: Ladder,
  names: Mapping[str, Overrides],
  resolve: Callable[[Overrides], dict[str, Any]],
) -> dict[str, str]:
  """The rule of each method."""
  if isinstance(ladder.transfer, str):
    return dict.fromkeys(names, ladder.transfer)
  optimizers = {
    name: resolve(method).get("optimizer", {}).get("name")
    for name, method in names.items()
  }
  known = [*names, *dict.fromkeys(optimizers.values())]
  for key in ladder.transfer:
    if key not in known:
      raise errors.UserError(
        f"Ladder.transfer names {key!r}, which is no method and no optimizer"
        f" of the sweep.{near_misses(str(key), known)} Known:"
        f" {', '.join(map(str, known))}."
      )
  return {
    name: ladder.transfer.get(
      name, ladder.transfer.get(optimizers[name], "constant")
    )
    for name in names
  }


def _rule(
  ladder: Ladder, rule: str, configs: Mapping[str, Mapping[str, Any]]
) -> tuple[str, dict[str, dict[str, float]], Overrides]:
  """A rule in words, its factors by size and key, and what it holds fixed."""
  at = ladder.tuned_at
  none: dict[str, dict[str, float]] = {size: {} for size in configs}
  if rule == "constant":
    return f"constant: the values of size {at}, as they are", none, {}
  widths = {size: own.get(ladder.width) for size, own in configs.items()}
  for size, width in widths.items():
    if not checks.is_number(width) or width <= 0:
      raise errors.UserError(
        f"Ladder.transfer 'width' reads {ladder.width!r}, which is {width!r} at"
        f" size {size!r}: set it in Ladder.sizes, or name another key by"
        " Ladder.width."
      )
  own = configs[at]
  fixed: Overrides = {}
  if checks.is_number(own.get(_MATRIX_SCALE)):
    key, who = _MATRIX_SCALE, "the rate of the matrices; all others stay"
  elif _FALLBACK in own:
    key, who = _RATE, f"of the matrices; {_FALLBACK} of all others stays"
    if own[_FALLBACK] is None:
      fixed[_FALLBACK] = own[_RATE]
      who += f" at what {_RATE} is at {at}"
  else:
    key = _RATE
    who = "of all parameters, since the optimizer has one rate for all"
  if not checks.is_number(own.get(key)):
    raise errors.UserError(
      f"Ladder.transfer 'width' scales {key!r}, which is {own.get(key)!r}"
      f" for optimizer {own.get('optimizer.name')!r}."
    )
  fixed[key] = own[key]
  text = f"width: {key} x {widths[at]} / {ladder.width}, {who}"
  return (
    text,
    {
      size: {key: widths[at] / width} if size != at else {}
      for size, width in widths.items()
    },
    fixed,
  )


def _steps(ladder: Ladder, budget: int, config: Mapping[str, Any]) -> int:
  """The optimizer steps of a budget."""
  if ladder.unit == "steps":
    return budget
  length = config.get(_LENGTH_KEY)
  if not checks.is_number(length):
    raise errors.UserError(
      f"Ladder.unit is 'tokens', but the data set has no {_LENGTH_KEY!r}: give"
      " budgets in steps."
    )
  per_step = config[_BATCH_KEY] * length
  if budget % per_step:
    raise errors.UserError(
      f"Ladder.budgets: {budget} tokens are no whole number of steps of"
      f" {per_step} tokens ({_BATCH_KEY} x {_LENGTH_KEY}); the next that are:"
      f" {budget - budget % per_step or per_step} and"
      f" {budget - budget % per_step + per_step}."
    )
  return budget // per_step


def _check_different(configs: Mapping[str, Mapping[str, Any]]) -> None:
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
  _check_different(found)
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
  if value not in among:
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
