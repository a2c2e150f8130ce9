"""The leaves of a config that are no component's: type, range and effect.

`model`, `norm`, `optimizer`, `data` and `objective` are components, whose
factories check their options. Every other leaf has a line in `FIELDS`, and one
without a line is a misspelt one: nothing would read it.
"""

import dataclasses
import enum
import functools
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from normjax import configure, errors, own_parts
from normjax.imports import is_outside
from normjax.registry import near_misses

MAX_INT32 = 2**31 - 1
# Traced floats are float32 in a program: beyond these they would be inf or 0.
MAX_FLOAT32 = 3.4028234663852886e38
MIN_FLOAT32 = 1.1754943508222875e-38

# The kind of a leaf that is a string or a tuple of strings.
TEXTS = str | tuple
# That of one that is parts of a whole, in the order in which they come.
FRACTIONS = tuple[float, ...]


class Effect(enum.Enum):
  """What a leaf decides.

  TRACED ones enter the compiled program as arrays, STATIC ones shape it, and
  LOOP ones steer what is around it.
  """

  TRACED = "traced"
  STATIC = "static"
  LOOP = "loop"


@dataclasses.dataclass(frozen=True)
class Field:
  """What one leaf may be.

  Attributes:
    kind: bool, int, float, str, tuple (of strings), TEXTS: one of the last
      two, or FRACTIONS.
    effect: see `Effect`.
    low: the smallest number allowed.
    high: the largest.
    above: whether `low` itself is not allowed.
    below: whether `high` itself is not allowed.
    choices: of a string; empty allows any.
  """

  kind: Any
  effect: Effect
  low: float = -math.inf
  high: float = math.inf
  above: bool = False
  below: bool = False
  choices: tuple[str, ...] = ()

  def __str__(self) -> str:
    """Says what is allowed, as in "an integer, at least 1"."""
    if self.choices:
      return " or ".join(map(repr, self.choices))
    if self.kind is bool:
      return "True or False"
    if self.kind is str:
      return "a string"
    if self.kind is tuple:
      return "a tuple of strings"
    if self.kind == TEXTS:
      return "a string or a tuple of strings"
    if self.kind == FRACTIONS:
      return "a tuple of rising numbers above 0 and below 1"
    kind = "an integer" if self.kind is int else "a finite number"
    return f"{kind}, {self.range()}"

  def range(self) -> str:
    """The numbers that are allowed, in words."""
    low = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
    top = MAX_INT32 if self.kind is int else MAX_FLOAT32
    if self.high >= top:
      return low
    high = f"below {self.high:g}" if self.below else f"at most {self.high:g}"
    return f"{low} and {high}"

  def problem(self, value: Any) -> str:
    """What is wrong with a value; nothing where it is allowed."""
    if not self._has_type(value):
      return f"must be {self}"
    if self.choices and value not in self.choices:
      return f"must be {self}"
    if self.kind not in (int, float):
      return ""
    # Python's whole numbers may be too large to be made floats.
    if isinstance(value, float) and not math.isfinite(value):
      return f"must be {self}"
    out_low = value <= self.low if self.above else value < self.low
    out_high = value >= self.high if self.below else value > self.high
    if out_low or out_high:
      beyond = value > MAX_INT32 and self.high == MAX_INT32
      return f"must be {self.range()}" + (
        f" and at most {MAX_INT32}" if beyond else ""
      )
    if self.effect is Effect.TRACED and self.kind is float:
      return _float32_problem(value)
    return ""

  def _has_type(self, value: Any) -> bool:
    if self.kind == TEXTS and isinstance(value, str):
      return True
    if self.kind == FRACTIONS:
      return isinstance(value, list | tuple) and _rise(value)
    if self.kind in (tuple, TEXTS):
      return isinstance(value, list | tuple) and all(
        isinstance(item, str) for item in value
      )
    if isinstance(value, bool):
      return self.kind is bool
    if self.kind is float:
      return isinstance(value, int | float)
    return isinstance(value, self.kind)


def _rise(values: Iterable[Any]) -> bool:
  """Whether they are numbers between 0 and 1, each above the one before."""
  numbers = [0.0, *values, 1.0]
  return all(
    isinstance(each, float | int) and not isinstance(each, bool)
    for each in numbers
  ) and all(a < b for a, b in itertools.pairwise(numbers))


def _int(effect: Effect, low: int, high: int = MAX_INT32) -> Field:
  return Field(int, effect, low, high)


def _scalar(low: float, high: float = MAX_FLOAT32, **ends: bool) -> Field:
  return Field(float, Effect.TRACED, low, high, **ends)


def _one_of(*choices: str, effect: Effect = Effect.STATIC) -> Field:
  return Field(str, effect, choices=choices)


_FLAG = Field(bool, Effect.STATIC)
_LOOP_FLAG = Field(bool, Effect.LOOP)

FIELDS: Mapping[str, Field] = {
  "seed": _int(Effect.TRACED, 0),
  # The table of schedules says which names there are.
  "schedule.name": Field(str, Effect.STATIC),
  "schedule.warmup_fraction": _scalar(0, 1),
  "schedule.decay_fraction": _scalar(0, 1),
  "schedule.final_fraction": _scalar(0, 1),
  "schedule.milestones": Field(FRACTIONS, Effect.STATIC),
  "train.num_steps": _int(Effect.TRACED, 1),
  "train.batch_size": _int(Effect.STATIC, 1),
  "train.accumulation_steps": _int(Effect.STATIC, 1),
  "train.gradient_clip": _scalar(0),
  "train.norms_frozen": _FLAG,
  "train.output_frozen": _FLAG,
  "train.others_frozen": _FLAG,
  "train.precision": _one_of("float32", "bfloat16"),
  "train.matmul_precision": _one_of("float32", "tf32", "bfloat16", "default"),
  # At 1 the targets would have no weight at all.
  "train.label_smoothing": _scalar(0, 1, below=True),
  "train.z_loss": _scalar(0),
  # Without an alpha above 0 nothing is mixed.
  "train.mixup_alpha": _scalar(0),
  "train.cutmix_alpha": _scalar(0),
  "train.mixup_probability": _scalar(0, 1),
  "train.mixup_switch_probability": _scalar(0, 1),
  "train.mixup_mode": _one_of("batch", "element", "halves"),
  # At 1 the average would stay where it began.
  "train.ema_decay": _scalar(0, 1, below=True),
  "train.ema_warmup": _FLAG,
  "train.layer_decay": _scalar(0, 1, above=True),
  "train.max_loss": _scalar(0, above=True),
  "train.num_devices": _int(Effect.STATIC, 0),
  "train.layout.data": _int(Effect.STATIC, 0),
  "train.layout.fsdp": _int(Effect.STATIC, 1),
  "train.layout.tensor": _int(Effect.STATIC, 1),
  "train.layout.min_size": _int(Effect.STATIC, 0),
  "train.layout.matrices": _one_of("auto", "distributed", "local"),
  "train.layout.batch_statistics": _one_of("global", "device"),
  "train.initialize_from": Field(TEXTS, Effect.LOOP),
  "train.deterministic": _FLAG,
  "evaluate.every_steps": _int(Effect.LOOP, 1),
  "evaluate.num_batches": _int(Effect.LOOP, 0),
  "evaluate.batch_size": _int(Effect.STATIC, 1),
  "evaluate.split": _one_of("validation", "tuning", "test", effect=Effect.LOOP),
  "evaluate.weights": _one_of("trained", "ema"),
  "evaluate.corruptions": Field(tuple, Effect.LOOP),
  # The table of metrics says which names there are.
  "evaluate.metrics": Field(tuple, Effect.STATIC),
  "checkpoint.every_steps": _int(Effect.LOOP, 0),
  "checkpoint.keep": _int(Effect.LOOP, 1),
  "log.every_steps": _int(Effect.LOOP, 1),
  "log.probes": Field(tuple, Effect.STATIC),
  "log.tensorboard": _LOOP_FLAG,
  "log.wandb": _LOOP_FLAG,
  "log.wandb_project": Field(str, Effect.LOOP),
  "log.wandb_group": Field(str, Effect.LOOP),
  "log.wandb_name": Field(str, Effect.LOOP),
}


def is_component(path: str) -> bool:
  """Whether a leaf is an option of a component."""
  return path.partition(".")[0] in configure.COMPONENTS


def is_traced(path: str) -> bool:
  """Whether a leaf enters the compiled program as an array.

  Of components' options, their factories say so.
  """
  return path in FIELDS and FIELDS[path].effect is Effect.TRACED


def is_own_option(path: str, flat: Mapping[str, Any]) -> bool:
  """Whether a leaf is an option of a schedule from outside.

  Args:
    path: of the leaf.
    flat: the config's leaves.
  """
  name = str(flat.get("schedule.name"))
  block, _, key = path.partition(".")
  if block != "schedule" or path in FIELDS or not is_outside(name):
    return False
  own = own_parts.signature(block, name)
  return own.open_ended or key in own.parameters


def traced(flat: Mapping[str, Any]) -> set[str]:
  """The leaves that enter the program as arrays, but for components' own."""
  found = set(filter(is_traced, flat))
  own = {
    p.partition(".")[2]: v for p, v in flat.items() if is_own_option(p, flat)
  }
  if own:
    signature = own_parts.signature("schedule", flat["schedule.name"])
    found |= {f"schedule.{key}" for key in signature.traced(own)}
  return found


def is_loop(path: str) -> bool:
  """Whether a leaf steers the loop around the program, not the program."""
  return path in FIELDS and FIELDS[path].effect is Effect.LOOP


def check(config: configure.ConfigDict) -> None:
  """Checks every leaf that is no component's, and that components are named.

  Raises:
    ConfigError: the first problem, with the key, the value, and what is
      allowed.
  """
  flat = dict(configure.leaves(configure.to_dict(config)))
  problem = next(_problems(flat), None)
  if problem is not None:
    raise errors.ConfigError(problem)


def _option_problem(value: Any, default: Any) -> str:
  """What no option may be; the factories know the rest.

  `run.json` has no infinities, no array has 2^31 of anything, and numbers are
  computed with in float32. None is left to the factory.

  Args:
    value: of the option.
    default: of the component's own config; None where that has none.
  """
  if isinstance(value, list):
    each = (_option_problem(item, None) for item in value)
    problem = next(filter(None, each), "")
  elif isinstance(value, bool):
    problem = ""
  elif isinstance(value, int) and abs(value) > MAX_INT32:
    problem = f"must be at most {MAX_INT32}"
  elif isinstance(value, float):
    problem = _float32_problem(value)
  else:
    problem = ""
  if problem or (value is None and not isinstance(default, bool)):
    return problem
  kind = type(default)
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return ""
  if default is None or type(value) is kind:
    return ""
  return f"must be {_KINDS.get(kind, kind.__name__)}, as {default!r}"


_KINDS = {
  bool: "True or False",
  int: "an integer",
  float: "a number",
  str: "a string",
  list: "a tuple or list",
}


def _float32_problem(value: float) -> str:
  if not math.isfinite(value):
    return "must be finite"
  if abs(value) > MAX_FLOAT32 or 0 < abs(value) < MIN_FLOAT32:
    return (
      f"must be 0 or between {MIN_FLOAT32:.3g} and {MAX_FLOAT32:.3g}: it is"
      " computed with in float32"
    )
  return ""


def _defaults(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The leaves of the components' own configs."""
  found = {}
  for block in configure.COMPONENTS:
    name = flat.get(f"{block}.name")
    if name is None:  # An optional one.
      continue
    found |= _own_leaves(block, name, _version(block, name))
  return found


@functools.lru_cache(maxsize=64)
def _own_leaves(
  block: str, name: str, version: tuple[Path, int] | None
) -> dict[str, Any]:
  """The leaves of a component's own config; a sweep asks for each often."""
  del version  # Another file, or one that was edited, is read anew.
  config = configure.component(block, name)
  found = dict(configure.leaves(configure.to_dict(config)))
  for key in config:
    # A whole default that may be a fraction is asked for as a fraction.
    if config.get_type(key) == configure.NUMBER:
      found[key] = float(found[key])
  return {f"{block}.{path}": value for path, value in found.items()}


def _version(block: str, name: str) -> tuple[Path, int] | None:
  """A component's file, and when it was written; None where there is none."""
  file = configure.component_file(configure.COMPONENTS[block], name)
  return None if file is None else (file, os.stat(file).st_mtime_ns)


def _problems(flat: Mapping[str, Any]) -> Iterator[str]:
  for block in configure.COMPONENTS:
    name = flat.get(f"{block}.name", configure.OPTIONAL.get(f"{block}.name"))
    if not isinstance(name, str):
      yield (
        f"the config names no {block}: {block}.name={name!r};"
        f" configure.component({block!r}, NAME) makes such a block."
      )
  defaults = _defaults(flat)
  for path, value in flat.items():
    if path in FIELDS:
      field = FIELDS[path]
      problem = field.problem(value)
      if problem and field.choices:
        allowed = ", ".join(map(repr, field.choices))
        yield (
          f"{path}={value!r}; allowed:"
          f" {allowed}.{near_misses(str(value), field.choices)}"
        )
      elif problem:
        yield f"{path}={value!r} {problem}."
    elif is_own_option(path, flat):
      default = own_parts.signature("schedule", flat["schedule.name"])
      default = default.defaults().get(path.partition(".")[2])
      if problem := _option_problem(value, default):
        yield f"{path}={value!r} {problem}."
    elif is_component(path):
      problem = _option_problem(value, defaults.get(path))
      if problem:
        yield f"{path}={value!r} {problem}."
      holder = path.rpartition(".")[0]
      # A component inside may be a name or a block with a name.
      if defaults.get(holder) is not None and not isinstance(
        defaults[holder], str
      ):
        yield (
          f"config key {holder!r} is a block;"
          f" {_option_problem({}, defaults[holder])}."
        )
    else:
      # An empty block reads as a leaf; what it lacks is said below.
      if value == {} and any(known.startswith(f"{path}.") for known in FIELDS):
        continue
      yield f"unknown config key {path!r}.{near_misses(path, FIELDS)}"
  for path in FIELDS:
    if path not in flat and path not in configure.OPTIONAL:
      yield (
        f"the config lacks {path!r} ({FIELDS[path]}); configs/default.py has"
        " every field."
      )
