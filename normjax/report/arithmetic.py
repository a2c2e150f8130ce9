"""What the runs computed with: precision of products, kernels, populations.

Each run's record says it. Rows that differ in it differ in more than the
method, which the head of a report says.
"""

from collections.abc import Mapping
from typing import Any

from normjax import configure, errors
from normjax.report.load import Run, SweepRecord
from normjax.report.tables import NOTHING

PRECISION = "float32 products"
TRAINED, ALONE = "trained", "alone"
_NOT_RECORDED = "not recorded"


def of_run(run: Run) -> dict[str, str]:
  """What a run computed with, by name; {} where it has not begun."""
  record = run.record.get("provenance", {})
  if not record:
    return {}
  kernels = record.get("kernels") or {}
  return {
    PRECISION: _precision(record),
    TRAINED: _mode(record),
    **{op: _shown(value) for op, value in configure.leaves(kernels)},
  }


def _precision(record: Mapping[str, Any]) -> str:
  """Runs of earlier versions do not say it; a CPU has one only."""
  if said := record.get("matmul_precision"):
    return str(said)
  only_cpu = set(record.get("devices", ())) == {"cpu"}
  return "float32" if only_cpu else _NOT_RECORDED


def _mode(record: Mapping[str, Any]) -> str:
  """Earlier versions do not say it: they trained each run by itself."""
  size = (record.get("population") or {}).get("size", 1)
  return ALONE if size == 1 else "in populations"


def _shown(value: Any) -> str:
  return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def table(sweep: SweepRecord) -> tuple[list[str], list[tuple[str, list[str]]]]:
  """What there is to tell, and what each method's runs had, in this order."""
  found = _by_method(sweep)
  names = list(dict.fromkeys(name for own in found.values() for name in own))
  return names, [
    (label, [" or ".join(own.get(name, ())) or NOTHING for name in names])
    for label, own in found.items()
  ]


def differences(sweep: SweepRecord) -> list[str]:
  """A sentence for each thing in which rows differ; mostly none."""
  return _differences(_by_method(sweep))


def differences_of_parts(parts: Mapping[str, SweepRecord]) -> list[str]:
  """The same of the rows of several sweeps, which their parts name."""
  return _differences(
    {
      f"{part}: {label}" if len(parts) > 1 else label: own
      for part, sweep in parts.items()
      for label, own in _by_method(sweep).items()
    }
  )


def _differences(found: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
  sentences = []
  for name in dict.fromkeys(name for own in found.values() for name in own):
    methods: dict[str, list[str]] = {}
    for label, own in found.items():
      for value in own.get(name, ()):
        methods.setdefault(value, []).append(label)
    if len(methods) > 1:
      said = "; ".join(
        f"{value} ({errors.few(labels, 3)})"
        for value, labels in methods.items()
      )
      sentences.append(
        f"Rows did not compute alike: {name}: {said}. A difference between them"
        " may come of it."
      )
  return sentences


def _by_method(sweep: SweepRecord) -> dict[str, dict[str, list[str]]]:
  """Method to name to the values that its runs had, each once."""
  found: dict[str, dict[str, list[str]]] = {m.label: {} for m in sweep.methods}
  for run in sweep.runs:
    for name, value in of_run(run).items():
      values = found.setdefault(run.method, {}).setdefault(name, [])
      if value not in values:
        values.append(value)
  if all(own.get(TRAINED, [ALONE]) == [ALONE] for own in found.values()):
    for own in found.values():
      own.pop(TRAINED, None)  # As ever; there is nothing to tell.
  return found
