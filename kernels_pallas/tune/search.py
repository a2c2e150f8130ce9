"""Tiles of a pass: pruned by compiling, then timed."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from kernels_pallas import aot, tuned
from kernels_pallas.bench import compiled, passes, timed
from kernels_pallas.tuned import Ask, Tile

# () -> the passes of an op, traced anew.
Make = Callable[[], Sequence[passes.Pass]]

_LEAST_GAIN = 0.02  # of the time; below, the computed tile stays
_MORE_BYTES = 1.05
_THREADS = 128
_REGISTERS = 65536  # of a multiprocessor


@dataclasses.dataclass
class Option:
  """A tile, and what is known of it.

  Attributes:
    ask: what it answers.
    which: the number of the pass.
    tile: its numbers.
    facts: of the program, see `compiled.facts`; {} where none was compiled.
    pruned: why it is not timed; "" where it is.
    seconds: of each call.
    clock: see `timed.time_s`.
  """

  ask: Ask
  which: int
  tile: Tile
  facts: Mapping[str, int] = dataclasses.field(default_factory=dict)
  pruned: str = ""
  seconds: Sequence[float] = ()
  clock: str = ""

  @property
  def is_default(self) -> bool:
    """Whether it is the tile that is computed."""
    return dict(self.tile) == dict(self.ask.default)

  @property
  def median_s(self) -> float | None:
    """Of its calls, if it was timed."""
    return statistics.median(self.seconds) if self.seconds else None

  def record(self) -> dict[str, Any]:
    """For a file of JSON."""
    return {
      "key": self.ask.key,
      "tile": dict(self.tile),
      "computed": self.is_default,
      **self.facts,
      **({"pruned": self.pruned} if self.pruned else {}),
      **(
        {
          "median_s": self.median_s,
          "seconds": self.seconds,
          "clock": self.clock,
        }
        if self.seconds
        else {}
      ),
    }


def asks(make: Make) -> list[tuple[int, Ask]]:
  """What the kernels of each pass ask for, with the pass's number."""
  found: dict[str, tuple[int, Ask]] = {}
  for which, each in enumerate(make()):
    with tuned.recording() as asked:
      # A function of its own: another's trace may be kept.
      jax.eval_shape(lambda *a, f=each.function: f(*a), *each.arguments)
    for key, ask in asked.items():
      found.setdefault(key, (which, ask))
  return list(found.values())


def pruned(make: Make, which: int, ask: Ask, target: str) -> list[Option]:
  """Every tile, compiled for a chip; the default first.

  Args:
    make: the passes.
    which: of them the one that asks.
    ask: for what.
    target: of `aot`.
  """
  known: dict[Any, Any] = {}
  options = [Option(ask, which, tile) for tile in ask.options()]
  for option in options:
    # The number of CTAs changes no code.
    form = tuple(v for k, v in option.tile.items() if k != "ctas")
    if form not in known:
      known[form] = _compiled(make, option, target)
    found = known[form]
    if isinstance(found, str):
      option.pruned = found
    else:
      option.facts = found
      option.pruned = _refused(option, options[0])
  return options


def _compiled(make: Make, option: Option, target: str) -> Any:
  """Facts of the program, or in a line why there is none."""
  try:
    with tuned.trying(option.ask, option.tile):
      with aot.abstract(target):
        each = make()[option.which]
      program = aot.compile(
        each.function, *each.arguments, target=target, donate=each.donated
      )
  except aot.MissingError:
    raise
  except Exception as error:  # Whatever a compiler says of a tile.
    return _line(error)
  return compiled.facts(program)


def _line(error: Exception) -> str:
  first = str(error).strip().partition("\n")[0]
  return f"{type(error).__name__}: {first}"[:200]


def _refused(option: Option, default: Option) -> str:
  """Why a tile that compiles is not worth a time; of the default nothing is."""
  own, than = option.facts, default.facts
  if option is default:
    return ""
  if own["spilled_bytes"] > than.get("spilled_bytes", 0):
    return f"spills {own['spilled_bytes']} bytes"
  if than and own["bytes"] > _MORE_BYTES * than["bytes"]:
    return f"moves {own['bytes'] / than['bytes']:.2f} of the bytes"
  resident = _REGISTERS // max(1, _THREADS * own["registers"])
  ctas = option.tile.get("ctas", 1)
  if own["registers"] and ctas > max(resident, option.ask.default["ctas"]):
    return f"{own['registers']} registers let {resident} CTAs run, not {ctas}"
  return ""


def time_all(
  make: Make, options: Sequence[Option], repeats: int, **rotation: int
) -> Iterator[Option]:
  """Times what was not pruned, on this machine's device, one by one."""
  for option in options:
    if not option.pruned:
      try:
        with tuned.trying(option.ask, option.tile):
          found = make()
          option.seconds, option.clock = timed.of_pass(
            found, found[option.which], repeats, **rotation
          )
      except Exception as error:  # Of a device; the others go on.
        option.pruned = _line(error)
    yield option


def fastest(options: Sequence[Option]) -> Option | None:
  """The one to keep; None where that is the computed tile, or nothing ran."""
  ran = [option for option in options if option.median_s is not None]
  default = next((option for option in ran if option.is_default), None)
  best = min(ran, key=lambda option: option.median_s or 0, default=None)
  if best is None or best is default:
    return None
  if default is not None:
    gain = 1 - (best.median_s or 0) / (default.median_s or 1)
    return best if gain > _LEAST_GAIN else None
  return best
