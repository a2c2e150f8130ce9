"""What a sweep over sizes and budgets and its report say of it alike."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rung:
  """What one row of such a sweep is.

  Attributes:
    method: the method's own label.
    size: its label.
    budget: in the ladder's unit.
  """

  method: str
  size: str
  budget: int


@dataclasses.dataclass(frozen=True)
class Rungs:
  """A ladder as `plan.json` holds it.

  Attributes:
    rows: a row's label to what it is; methods, sizes and budgets in order.
    unit: of the budgets: "steps" or "tokens".
    tuned_at: the size and the budget that the methods are tuned at.
    transfer: by method, how its values are carried to the other sizes, in
      words.
  """

  rows: Mapping[str, Rung]
  unit: str
  tuned_at: tuple[str, int]
  transfer: Mapping[str, str]

  @functools.cached_property
  def methods(self) -> list[str]:
    """Labels of the methods, without sizes."""
    return list(dict.fromkeys(rung.method for rung in self.rows.values()))

  @functools.cached_property
  def sizes(self) -> list[str]:
    """Labels, in the order of the config."""
    return list(dict.fromkeys(rung.size for rung in self.rows.values()))

  @functools.cached_property
  def budgets(self) -> list[int]:
    """Those of all methods, the smallest first."""
    return sorted(set.intersection(*(set(self.of(m)) for m in self.methods)))

  @functools.cached_property
  def all_budgets(self) -> list[int]:
    """With those of the baseline alone."""
    return sorted({rung.budget for rung in self.rows.values()})

  def of(self, method: str) -> list[int]:
    """The budgets of a method, the smallest first."""
    own = {r.budget for r in self.rows.values() if r.method == method}
    return sorted(own)

  @property
  def num_comparisons(self) -> int:
    """Rows that are compared with the baseline of their rung."""
    return (len(self.methods) - 1) * len(self.sizes) * len(self.budgets)

  def row(self, method: str, size: str, budget: int) -> str:
    """The label of a row."""
    return self._labels[Rung(method, size, budget)]

  def beside(self, label: str, other: str) -> str:
    """The row of the method of `other`, at the size and budget of `label`."""
    rung = self.rows[label]
    return self.row(self.rows[other].method, rung.size, rung.budget)

  def tuned_row(self, label: str) -> str:
    """The row whose tuning a row's values come from."""
    return self.row(self.rows[label].method, *self.tuned_at)

  @functools.cached_property
  def _labels(self) -> dict[Rung, str]:
    return {rung: label for label, rung in self.rows.items()}


def protocol(rungs: Rungs) -> list[tuple[str, str]]:
  """Name and value of what defines the ladder."""
  size, budget = rungs.tuned_at
  rules: dict[str, list[str]] = {}
  for method, rule in rungs.transfer.items():
    rules.setdefault(rule, []).append(method)
  more = [b for b in rungs.all_budgets if b not in rungs.budgets]
  return [
    ("Sizes", ", ".join(rungs.sizes)),
    (
      "Budgets",
      f"{', '.join(f'{b:,}' for b in rungs.budgets)} {rungs.unit}; each a run"
      " of its own, whose schedule ends there",
    ),
    *(
      [
        (
          "Budgets of the baseline alone",
          f"{', '.join(f'{b:,}' for b in more)} {rungs.unit}",
        )
      ]
      if more
      else []
    ),
    ("Tuned at", f"size {size}, {budget:,} {rungs.unit}"),
    *(
      (f"Carried to other rungs, {', '.join(methods)}", rule)
      for rule, methods in rules.items()
    ),
  ]


def fits(value: Any) -> bool:
  """Whether a file's value is a ladder: each method at each size and budget."""
  if not isinstance(value, dict) or not isinstance(value.get("rows"), list):
    return False
  kinds = {"label": str, "method": str, "size": str, "budget": int}
  for row in value["rows"]:
    if not isinstance(row, dict) or any(
      not isinstance(row.get(key), kind) for key, kind in kinds.items()
    ):
      return False
  rows = [(r["method"], r["size"], r["budget"]) for r in value["rows"]]
  at, transfer = value.get("tuned_at"), value.get("transfer")
  methods = {method for method, _, _ in rows}
  sizes = {size for _, size, _ in rows}
  # Each method has its budgets at every size, and one rung is everybody's.
  own = {m: {b for method, _, b in rows if method == m} for m in methods}
  whole = [(m, size, b) for m in methods for size in sizes for b in own[m]]
  return (
    bool(rows)
    and sorted(rows) == sorted(whole)
    and isinstance(value.get("unit"), str)
    and isinstance(at, list)
    and all((method, *at) in rows for method in methods)
    and isinstance(transfer, dict)
    and transfer.keys() == methods
    and all(isinstance(rule, str) for rule in transfer.values())
  )


def to_json(rungs: Rungs) -> dict[str, Any]:
  """What `plan.json` holds."""
  rows = [
    {"label": label, **dataclasses.asdict(r)} for label, r in rungs.rows.items()
  ]
  return {
    "unit": rungs.unit,
    "tuned_at": list(rungs.tuned_at),
    "transfer": dict(rungs.transfer),
    "rows": rows,
  }


def from_json(value: Mapping[str, Any]) -> Rungs:
  """What `to_json` gave."""
  rows: Sequence[Mapping[str, Any]] = value["rows"]
  size, budget = value["tuned_at"]
  return Rungs(
    rows={r["label"]: Rung(r["method"], r["size"], r["budget"]) for r in rows},
    unit=value["unit"],
    tuned_at=(size, budget),
    transfer=value["transfer"],
  )
