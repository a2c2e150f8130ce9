"""What `Sweep.population` may be, and what it means for a launch."""

from typing import Any

from normjax import errors
from normjax.sweep import checks

OFF, AUTO = "off", "auto"
# Of "auto": compiled for an H200, a step of sixteen small decoders takes 204
# kernels, that of one takes 200.
AUTO_MEMBERS = 16
_RUNNERS = "normjax.train.side_by_side"


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


def runner(value: str | int, default: str) -> str:
  """What a worker calls; `default` where each point runs by itself."""
  if value == OFF:
    return default
  return f"{_RUNNERS}:{'AUTO' if value == AUTO else 'POPULATION'}"
