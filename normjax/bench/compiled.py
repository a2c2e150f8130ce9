"""What norms, updates and training steps move on chips that are not here.

Programs are compiled for an H200 or a TPU, and their bytes are counted: see
`kernels_pallas.aot`. No time is measured, none follows from it alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from kernels_pallas import aot
from kernels_pallas.bench import compiled as facts_lib
from kernels_pallas.bench import passes
from normjax import errors, norms, optim
from normjax.bench import compiled_steps, tables
from normjax.bench import compiled_subjects as subjects

_COLUMNS = (
  "what", "of", "target", "bytes / ideal", "kept / x", "MB", "kernels",
  "temporary MB", "why not",
)  # fmt: skip
_NOTE = (
  "Compiled, not run: bytes that kernels read and write. Ideal: what a pass"
  " must read and write once; of a norm 2, 2, 3, 4 times x (forward, keeping,"
  " backward, both), of a step the peer in flax.linen and optax. Of"
  " conditionals all branches count."
)
# Times x, at least.
_IDEAL_PASSES = {"forward": 2, "keeping": 2, "backward": 3, "both": 4}

_Records = Iterator[dict[str, Any]]


def compile_pass(each: passes.Pass, target: str) -> dict[str, int]:
  """The facts of a program's record."""
  found = aot.compile(
    each.function, *each.arguments, target=target, donate=each.donated
  )
  return facts_lib.facts(found)


def norm_records(name: str, shape: tuple[int, ...], target: str) -> _Records:
  """A record for each pass of the norm over x of that shape, in bfloat16."""
  x_bytes = 2 * math.prod(shape)
  with aot.abstract(target):
    found = subjects.norm_passes(name, shape)
  for each in found:
    record = compile_pass(each, target)
    if each.name == "backward":
      record["kept_bytes"] = passes.size_bytes(each.arguments[0])
      record["kept_over_x"] = record["kept_bytes"] / x_bytes
    yield {
      "of": f"{each.name} {'x'.join(map(str, shape))}",
      "ideal_bytes": _IDEAL_PASSES[each.name] * x_bytes,
      **record,
    }


def update_records(name: str, target: str, num_layers: int = 12) -> _Records:
  """The record of one update of a LLaMA's parameters."""
  with aot.abstract(target):
    each, ideal = subjects.update(name, subjects.llama_leaves(num_layers))
  yield {
    "of": f"update, {num_layers} layers",
    "ideal_bytes": ideal,
    **compile_pass(each, target),
  }


def step_records(name: str, precision: str, target: str) -> _Records:
  """Records of the peer's training step and ours; with smaller logits too."""
  peer = compile_pass(compiled_steps.peer(name, precision), target)
  yield {"of": f"step of flax.linen, {precision}", **peer}
  logits = {"": {}}
  if precision == "bfloat16":  # The peer's logits are float32.
    logits[", also logits"] = {
      "objective.name": "cross_entropy",
      "objective.logits_dtype": precision,
    }
  for what, overrides in logits.items():
    with aot.abstract(target):
      ours = compiled_steps.ours(name, precision, **overrides)
    yield {
      "of": f"step, {precision}{what}",
      "ideal_bytes": peer["bytes"],
      **compile_pass(ours, target),
    }


def _chosen(
  options: Mapping[str, Any],
) -> Iterator[tuple[str, str, Callable[[], _Records]]]:
  """(what, target, its records) for all that the flags name."""
  for target in options["target"]:
    if "norms" in options["subjects"]:
      for shape in subjects.SHAPES:
        for name in options["norms"] or norms.names():
          if subjects.fits(name, shape):
            yield (
              name,
              target,
              lambda n=name, s=shape, t=target: norm_records(n, s, t),
            )
    if "optim" in options["subjects"]:
      for name in options["methods"] or optim.names():
        yield (
          name,
          target,
          lambda n=name, t=target: update_records(n, t, options["num_layers"]),
        )
    if "steps" in options["subjects"]:
      for name in options["steps"] or compiled_steps.MODELS:
        for precision in options["precisions"]:
          yield (
            name,
            target,
            lambda n=name, p=precision, t=target: step_records(n, p, t),
          )


def _row(record: Mapping[str, Any]) -> Sequence[str]:
  def number(key: str, scale: float, digits: int) -> str:
    return f"{record[key] / scale:.{digits}f}" if key in record else ""

  return (
    record["name"],
    record.get("of", ""),
    record["target"],
    number("bytes_over_ideal", 1, 2),
    number("kept_over_x", 1, 1),
    number("bytes", 1e6, 0),
    number("kernels", 1, 0),
    number("temporary_bytes", 1e6, 0),
    record.get("error", ""),
  )


def _check(options: Mapping[str, Any]) -> None:
  """Raises UserError for names that nothing has."""
  for name in options["norms"]:
    norms.make(name)
  for name in options["methods"]:
    optim.make(name, learning_rate=subjects.LEARNING_RATE)
  for flag, known in (
    ("target", tuple(aot.TARGETS)),
    ("subjects", ("norms", "optim", "steps")),
    ("steps", tuple(compiled_steps.MODELS)),
    ("precisions", ("float32", "bfloat16")),
  ):
    unknown = [name for name in options[flag] if name not in known]
    if unknown:
      raise errors.UserError(
        f"--{flag}={','.join(options[flag])}: no {', '.join(unknown)};"
        f" known: {', '.join(known)}."
      )
  for flag in ("target", "subjects", "precisions"):
    if not options[flag]:
      raise errors.UserError(f"--{flag}=: it names nothing to compile.")
  for target in options["target"]:
    if reason := aot.missing(target):
      raise errors.UserError(f"--target={target}: {reason}")


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Compiles what the flags name, and prints and writes what it moves.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UserError: a name that nothing has, or a compiler that is not installed.
  """
  _check(options)
  report = tables.Report(console, "compiled", _COLUMNS, _NOTE, options["out"])
  for name, target, records in _chosen(options):
    about = {"name": name, "target": target}
    with console.status(f"{name}, {target}"):
      try:
        for record in records():
          if "ideal_bytes" in record:
            ratio = record["bytes"] / record["ideal_bytes"]
            record["bytes_over_ideal"] = ratio
          record = {**about, **record}
          report.add(record, [_row(record)])
      except Exception as error:  # Of any compiler's; the others go on.
        first = str(error).strip().partition("\n")[0]
        record = {**about, "error": f"{type(error).__name__}: {first}"}
        report.add(record, [_row(record)])
  report.show()
