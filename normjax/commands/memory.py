"""Whether a config fits: the bytes that its run holds, from shapes alone.

Prints parameters, gradients and optimizer state as they are stored, beside the
estimate that papers print. Nothing is compiled, drawn or allocated.
"""

import dataclasses
import json

from absl import flags

from normjax import data, escape
from normjax.commands import arguments

# Of a pipe or a file, which has none of its own.
_WIDTH_CHARS = 160
_LEAST_BINARY = 2**30
USAGE = "memory CONFIG [--json] [--config.key=value …]"


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_bool("json", False, "Prints bytes as JSON.", flag_values=values)


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Prints a table, or JSON."""
  path = arguments.one(positional, "config file", USAGE)
  config, _ = arguments.load_config(path, overrides)
  from normjax import memory  # Late: `normjax --help` must not pay for jax.
  from normjax.train import check

  with data.shapes_suffice() as missing:
    check.check(config)
    found = memory.bytes_of(config)
    notes = missing()
  if values["json"].value:
    print(json.dumps(_as_json(found, notes), indent=2))
  else:
    _print(found, notes)
  return 0


def _as_json(found, notes: list[str]) -> dict:
  return dataclasses.asdict(found) | {
    "total": dataclasses.asdict(found.total),
    "notes": notes,
  }


def _print(found, notes: list[str]) -> None:
  from rich import box
  from rich.console import Console
  from rich.table import Table

  from normjax.report.tables import show_bytes

  console = Console(highlight=False)
  if not console.is_terminal:
    console = Console(highlight=False, width=_WIDTH_CHARS)
  table = Table(box=box.SIMPLE)
  for header in ("part", "what"):
    table.add_column(header, overflow="fold")
  numbers = ["entries", "held", "gradients", "optimizer state"]
  for header in [*numbers, "paper: weights", "paper: states"]:
    table.add_column(header, justify="right")
  total = found.total
  for group in [*found.groups, total]:
    if group is total:
      table.add_section()
    part, what, entries, *sizes = dataclasses.astuple(group)
    shown = [show_bytes(size) if size else "–" for size in sizes]
    table.add_row(part, escape.terminal(what), f"{entries:,}", *shown)
  console.print(table)
  held = total.held_bytes + total.optimizer_state_bytes
  stored = held + total.gradient_bytes
  paper = total.paper_weight_bytes + total.paper_state_bytes
  lines = [
    f"as stored: {_both(held)} from step to step; with all gradients"
    f" {_both(stored)}",
    f"papers' estimate, bfloat16 weights and states: {_both(paper)}",
  ]
  if found.num_devices > 1:
    lines.append(
      f"each of {found.num_devices} devices holds"
      f" {_both(found.per_device_bytes)} from step to step"
    )
  lines += found.remarks
  lines.append("`normjax show` compiles the step and prints its peak")
  for line in [*lines, *(f"note: {note}" for note in notes)]:
    console.print(escape.terminal(line), soft_wrap=True)


def _both(size: int) -> str:
  from normjax.report.tables import show_bytes

  # Devices are sold by the second.
  binary = f" ({size / 2**30:.2f} GiB)" if size >= _LEAST_BINARY else ""
  return f"{show_bytes(size)}{binary}"
