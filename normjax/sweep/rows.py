"""The rows of a ladder, and how tuned values are carried to them.

Every method has a row at every size and budget, `muon @ 64 x 300 steps`. Each
is a run of its own, whose schedule ends at its budget. The methods are tuned
at one of these rungs alone; the others take the values from there by a rule.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from normjax import configure, errors
from normjax.record.rungs import Rung, Rungs
from normjax.registry import near_misses
from normjax.sweep import checks
from normjax.sweep import ladder as ladder_lib
from normjax.sweep.ladder import BATCH_KEY, STEPS_KEY, Ladder
from normjax.sweep.space import Overrides

_LENGTH_KEY = "data.sequence_length"
_RATE = "optimizer.learning_rate"
_MATRIX_SCALE = "optimizer.matrix_scale"
_FALLBACK = "optimizer.fallback_learning_rate"


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of a sweep: of a ladder, or the methods themselves.

  Attributes:
    methods: the overrides of each.
    rungs: what each row of a ladder is; None without one.
  """

  methods: Mapping[str, Overrides]
  rungs: Rungs | None = None
  _scales: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  _kept: Mapping[str, Overrides] = dataclasses.field(default_factory=dict)

  def tuned_row(self, label: str) -> str:
    """The row whose tuning a row's values come from."""
    return self.rungs.tuned_row(label) if self.rungs else label

  def carried(self, label: str, values: Overrides) -> Overrides:
    """The values of a row, from those that were tuned.

    Args:
      label: of the row.
      values: chosen for `rungs.tuned_row(label)`; {} where nothing is tuned.
    """
    kept = self._kept.get(label, {})
    own = {**kept, **values}
    # A fallback without a rate of its own had the one that is scaled.
    if _FALLBACK in kept and _RATE in values:
      own[_FALLBACK] = values.get(_FALLBACK, values[_RATE])
    scales = self._scales.get(label, {})
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
    ladder_lib.check_different(configs)
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
  return Rows(methods, Rungs(rows, ladder.unit, at, texts), scales, kept)


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
  known = [*dict.fromkeys((*names, *optimizers.values()))]
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
  per_step = config[BATCH_KEY] * length
  if budget % per_step:
    below = budget - budget % per_step
    near = [str(tokens) for tokens in (below, below + per_step) if tokens]
    raise errors.UserError(
      f"Ladder.budgets: {budget} tokens are no whole number of steps of"
      f" {per_step} tokens ({BATCH_KEY} x {_LENGTH_KEY}); the next that are:"
      f" {' and '.join(near)}."
    )
  return budget // per_step
