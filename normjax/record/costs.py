"""What a training step of each method takes at a real size: a file's schema.

`normjax bench memory` writes it, from programs that are compiled and not run;
a sweep's plan has a copy of what it says of the sweep's methods.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.record import files

# Of a floating-point number of 16 bits or more by the papers' way of counting;
# all others count as they are held.
PAPER_BYTES = 2


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one method's step takes; bytes of one device.

  Attributes:
    num_params: how many numbers the optimizer's parameters are.
    parameters_bytes: of them, as they are held.
    untrained_bytes: of what belongs to matrices and no gradient moves: places
      of sparse entries, frozen weights.
    gradients_bytes: by definition: a number of the gradients' own dtype for
      each that is differentiated. Whether all live at once is the compiler's
      choice.
    optimizer_state_bytes: of all its arrays.
    other_state_bytes: of the rest of a run's state: statistics of norms, an
      average, counters.
    inputs_bytes: of what a step is given beside its state, with padding.
    outputs_bytes: of what it returns beside its state.
    temporaries_bytes: of all else that the compiler asks for: gradients,
      activations, workspace.
    peak_bytes: of all of it together, gradients but once: they are temporaries.
    moved_low_bytes: that kernels read and write in a step, at least: of each
      conditional the branch that moves the least.
    moved_high_bytes: likewise, at most.
    kernels: launched, those of all branches.
    flops: of the matrix products of a step, of a conditional the branch of the
      most; None where some are in a loop of no known length.
    paper_weights_bytes: of what `parameters_bytes` and `untrained_bytes` are
      of, by `PAPER_BYTES`.
    paper_gradients_bytes: of gradients, likewise.
    paper_state_bytes: of the optimizer's state, likewise.
  """

  num_params: int
  parameters_bytes: int
  untrained_bytes: int
  gradients_bytes: int
  optimizer_state_bytes: int
  other_state_bytes: int
  inputs_bytes: int
  outputs_bytes: int
  temporaries_bytes: int
  peak_bytes: int
  moved_low_bytes: int
  moved_high_bytes: int
  kernels: int
  flops: float | None
  paper_weights_bytes: int
  paper_gradients_bytes: int
  paper_state_bytes: int

  @property
  def activations_bytes(self) -> int | None:
    """What is left of temporaries without gradients: also workspace.

    None where that is less than nothing: gradients never all live at once.
    """
    left = self.temporaries_bytes - self.gradients_bytes
    return left if left >= 0 else None

  @property
  def lasting_bytes(self) -> int:
    """What no batch changes: parameters, state, gradients by definition."""
    return (
      self.parameters_bytes
      + self.untrained_bytes
      + self.optimizer_state_bytes
      + self.other_state_bytes
      + self.gradients_bytes
    )

  @property
  def paper_bytes(self) -> int:
    """Weights and optimizer states, as papers count; no gradients."""
    return self.paper_weights_bytes + self.paper_state_bytes


@dataclasses.dataclass(frozen=True)
class Costs:
  """A file's costs of a sweep's methods, as a plan holds them.

  Attributes:
    file: where they are from.
    target: the chip that was compiled for.
    model: what was compiled, in a few words.
    methods: by label.
    missing: by label, why there is no cost.
  """

  file: str
  target: str
  model: str
  methods: Mapping[str, Cost]
  missing: Mapping[str, str]

  def to_json(self) -> dict[str, Any]:
    """For `plan.json`."""
    methods = {label: vars(cost) for label, cost in self.methods.items()}
    return {**vars(self), "methods": methods, "missing": dict(self.missing)}


def from_json(value: Mapping[str, Any]) -> Costs:
  """Of what `Costs.to_json` gives, or a later version with more keys."""
  methods = {label: cost(each) for label, each in value["methods"].items()}
  return Costs(
    **{key: value[key] for key in ("file", "target", "model", "missing")},
    methods=methods,
  )


def cost(entry: Mapping[str, Any]) -> Cost:
  """Of an entry of the file."""
  names = [field.name for field in dataclasses.fields(Cost)]
  return Cost(**{name: entry[name] for name in names})


def fits(value: Any) -> bool:
  """Whether a value is what `from_json` takes."""
  return (
    isinstance(value, dict)
    and all(isinstance(value.get(k), str) for k in ("file", "target", "model"))
    and isinstance(value.get("missing"), dict)
    and isinstance(value.get("methods"), dict)
    and all(map(is_cost, value["methods"].values()))
    and all(isinstance(each, str) for each in value["missing"].values())
  )


def is_cost(entry: Any) -> bool:
  """Whether an entry has all numbers of a `Cost`."""
  if not isinstance(entry, dict):
    return False
  for field in dataclasses.fields(Cost):
    value = entry.get(field.name)
    if field.name == "flops" and (value is None or type(value) is float):
      continue
    if type(value) is not int or value < 0:
      return False
  return True


def read(path: Path) -> dict[str, Any] | None:
  """The file's value, checked; None where there is no file.

  Raises:
    UserError: it is another file.
  """
  try:
    value = files.read_json(path)
  except (errors.RunError, OSError) as error:
    raise errors.UserError(f"{path}: {error}") from error
  if value is None:
    return None
  texts = ("sweep", "target", "model")
  entries = value.get("methods") if isinstance(value, dict) else None
  if not isinstance(entries, dict) or not all(
    isinstance(value.get(key), str) for key in texts
  ):
    raise errors.UserError(
      f"{path}: a file of `normjax bench memory` is needed, with"
      f" {', '.join(texts)} and methods."
    )
  for label, entry in entries.items():
    if not isinstance(entry, dict) or not (
      isinstance(entry.get("fingerprint"), str)
      and (isinstance(entry.get("error"), str) or is_cost(entry))
    ):
      shown = json.dumps(entry)[:60]
      raise errors.UserError(
        f"{path}: methods has {label!r}: {shown}…; a fingerprint and either an"
        " error or the numbers of a step are needed."
      )
  return value
