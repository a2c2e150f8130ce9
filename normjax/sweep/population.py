"""What `Sweep.population` may be, and what it means for a launch."""

from typing import Any

from normjax import errors
from normjax.sweep import checks

OFF, AUTO = "off", "auto"
# Of "auto": compiled for an H200, a step of sixteen small decoders takes 204
# kernels, that of one takes 200.
AUTO_MEMBERS = 16
ALONE = "normjax.train:run"
_RUNNERS = "normjax.train.population.side_by_side"


def check(name: str, value: Any) -> None:
  """Raises UserError for what is no population."""
  if value in (OFF, AUTO) or (checks.is_int(value) and value >= 2):
    return
  raise errors.UserError(
    f"{name} must be 'auto', 'off' or a whole number >= 2, the members that"
    f" train together; got {value!r}."
  )


def parse(text: str) -> str | int:
  """The value of a flag; what is no number is checked with the sweep's."""
  return int(text) if text.strip().isdecimal() else text


def most(value: str | int) -> int:
  """Points of one program that a slot is given at once."""
  if value == OFF:
    return 1
  return AUTO_MEMBERS if value == AUTO else int(value)


def runner(value: str | int, alone: str) -> str:
  """What a worker calls.

  Args:
    value: of `Sweep.population`.
    alone: what it calls for each point by itself; one of the caller's own says
      itself what it can.
  """
  if value == OFF or alone != ALONE:
    return alone
  return f"{_RUNNERS}:{'AUTO' if value == AUTO else 'POPULATION'}"
