"""What lean methods take: few bits, small factors, losses alone, blocks.

Every part is one run in which all take turns. A bar is on the median of the
rounds' ratios. What is compared with a sum, such as a zeroth-order step with
its passes and draws, is compared with that of the same round.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from normjax import errors
from normjax.bench import contest, tables
from normjax.bench.lean_parts import PARTS, Comparison

_COLUMNS = (
  "what", "ms", "beside", "ratio", "bar", "tokens/s", "state B/entry",
  "held MiB", "temporary MiB", "compile s",
)  # fmt: skip


def results(
  comparisons: Sequence[Comparison],
  contestants: Mapping[str, contest.Contestant],
  seconds: Mapping[str, Sequence[float]],
) -> list[dict[str, Any]]:
  """A record per comparison.

  Args:
    comparisons: of one part.
    contestants: of it, by name.
    seconds: of a step of each, by round.
  """
  found = []
  for each in comparisons:
    facts, rounds_s = contestants[each.name].facts, seconds[each.name]
    record = {
      "name": each.name,
      **facts,
      "step_s": statistics.median(rounds_s),
      "rounds_s": list(rounds_s),
    }
    if "tokens_per_step" in facts:
      record["tokens_per_s"] = facts["tokens_per_step"] / record["step_s"]
    if each.beside:
      sums = [0.0] * len(rounds_s)
      for name, times in each.beside.items():
        sums = [a + times * b for a, b in zip(sums, seconds[name], strict=True)]
      ratios = [a / b for a, b in zip(rounds_s, sums, strict=True)]
      record |= {
        "beside": each.told(),
        "ratios": ratios,
        "ratio": statistics.median(ratios),
      }
    if each.bar is not None:
      record["bar"] = each.bar
      record["within_bar"] = record["ratio"] <= each.bar
    found.append(record)
  return found


def row(part: str, result: Mapping[str, Any]) -> tuple[str, ...]:
  """One row of the table."""
  bar, state = "", result.get("state_bytes_per_entry")
  if "bar" in result:
    bar = f"{result['bar']:g} {'met' if result['within_bar'] else 'missed'}"
  speed = result.get("tokens_per_s")
  return (
    f"{part}: {result['name']}",
    tables.milliseconds(result["step_s"]),
    result.get("beside", ""),
    tables.ratio(result),
    bar,
    "" if speed is None else f"{speed:.0f}",
    "" if state is None else f"{state:.4f}",
    tables.mebibytes(result, "held_bytes"),
    tables.mebibytes(result, "temp_bytes"),
    f"{result['compile_s']:.1f}",
  )


def _told(name: str, sizes: Mapping[str, int], note: str) -> str:
  listed = ", ".join(f"{key} {value}" for key, value in sizes.items())
  return f"{name}: {note} ({listed})."


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures the parts of `options["parts"]`, or all.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UserError: no such part.
  """
  names = options["parts"] or list(PARTS)
  unknown = [name for name in names if name not in PARTS]
  if unknown:
    raise errors.UserError(
      f"--parts={','.join(names)}: no {', '.join(unknown)}; known:"
      f" {', '.join(PARTS)}."
    )
  sizes = {name: PARTS[name].sizes[bool(options["tiny"])] for name in names}
  told = [_told(name, sizes[name], PARTS[name].note) for name in names]
  note = (
    f"Steps on {tables.here()}, float32. {' '.join(told)} Tokens of a step are"
    " batch_size x length. State: bytes per entry of the hidden matrices; held:"
    " parameters and what the optimizer and the step keep. Bars are on the"
    f" median. {tables.ROUNDS_NOTE}"
  )
  with contest.no_compilation_cache():
    report = tables.Report(
      console, "lean", _COLUMNS, note, options["out"], sizes=sizes
    )
    for name in names:
      with console.status(name):
        made = PARTS[name].make(sizes[name])
        rounds = contest.time_rounds(
          list(made.values()),
          options["repeats"],
          options["budget_s"] * (len(made) - 1),
        )
      seconds = dict(zip(made, rounds, strict=True))
      for result in results(PARTS[name].comparisons, made, seconds):
        report.add({"part": name, **result}, [row(name, result)])
  report.show()
