"""The leaves of a config that are no component's: type, range and effect.

`model`, `norm`, `optimizer`, `data` and `objective` are components, whose
factories check their options. Every other leaf has a line in `FIELDS`, and one
without a line is a misspelt one: nothing would read it.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from normjax import configure, errors, own_parts
from normjax.field import (
  FRACTIONS,
  MAX_FLOAT32,
  MAX_INT32,
  TEXTS,
  Effect,
  Field,
  float32_problem,
)
from normjax.imports import is_outside
from normjax.registry import near_misses


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
  "schedule.restart_every": _int(Effect.STATIC, 0),
  "schedule.restart_warmup_steps": _int(Effect.TRACED, 0),
  "train.num_steps": _int(Effect.TRACED, 1),
  "train.batch_size": _int(Effect.STATIC, 1),
  "train.accumulation_steps": _int(Effect.STATIC, 1),
  # The table of gradients says which names and options there are.
  "train.gradient": Field(str, Effect.STATIC),
  "train.gradient_clip": _scalar(0),
  "train.perturbation_eps": _scalar(0, above=True),
  "train.norms_frozen": _FLAG,
  "train.output_frozen": _FLAG,
  "train.others_frozen": _FLAG,
  "train.precision": _one_of("float32", "bfloat16"),
  "train.matmul_precision": _one_of("float32", "tf32", "bfloat16", "default"),
  "train.param_dtype": _one_of("float32", "bfloat16"),
  "train.param_rounding": _one_of("nearest", "stochastic", "kahan"),
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
  "train.block_gradients": _FLAG,
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
  # Of learners, methods and streams their tables say which there are.
  "continual.learner": Field(str, Effect.STATIC),
  "continual.num_tasks": _int(Effect.STATIC, 1),
  "continual.buffer_size": _int(Effect.STATIC, 1),
  "continual.replay_size": _int(Effect.STATIC, 1),
  "continual.forward": _one_of("separate", "joint"),
  "continual.penalty": _scalar(0),
  "continual.penalty_from": _int(Effect.TRACED, 0),
  "context.method": Field(str, Effect.STATIC),
  "context.num_controls": _int(Effect.STATIC, 0),
  "context.control_class": _int(Effect.STATIC, 0),
  "context.protocols": Field(tuple, Effect.LOOP),
  "evaluate.adapt.methods": Field(tuple, Effect.LOOP),
  "evaluate.adapt.stream": Field(str, Effect.LOOP),
  "evaluate.adapt.corruptions": Field(tuple, Effect.LOOP),
  "evaluate.adapt.severity": _int(Effect.LOOP, 1, 5),
  "evaluate.adapt.batch_size": _int(Effect.LOOP, 1),
  "evaluate.adapt.concentration": Field(
    float, Effect.LOOP, 0, MAX_FLOAT32, above=True
  ),
  "evaluate.adapt.passes": _int(Effect.LOOP, 1),
  "evaluate.adapt.num_examples": _int(Effect.LOOP, 0),
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
    problem = float32_problem(value)
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
