"""The page of speeds on accelerators: of the files of `normjax bench gpu`."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs import generator
from docs.generator import text

FOLDER = generator.ROOT / "experiments" / "gpu"
_Found = Mapping[str, Any]
_INTRO = """\
`normjax bench gpu --out=experiments/gpu` on a machine with one writes what
stands here; [the tutorial](../tutorials/accelerators.md) says how to go on.
Data is random. Where there is a GPU, *device* is what its kernels took, as the
profiler has it, and the time beside it is the clock's."""
_NOTHING = """\
**No device has been measured yet.** What is known of chips is what compiling
for them says, bytes, kernels and registers: [speed](speed.md)."""


def page(folder: Path = FOLDER) -> str:
  """docs/reference/accelerators.md.

  Args:
    folder: of the files, those in its folders too.

  Raises:
    ValueError: a file is not what the benchmark writes; names it.
  """
  blocks = ["# Speed on accelerators", _INTRO]
  files = sorted(folder.rglob("*.json"))
  # Tiny sizes show that the benchmark runs, and no speed.
  files = [file for file in files if not file.stem.endswith("_tiny")]
  if not files:
    blocks.append(_NOTHING)
  for file in files:
    try:
      blocks += _device(json.loads(file.read_text()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f"{file} is no file of `normjax bench gpu`:"
        f" {type(error).__name__}: {error}"
      ) from error
  return "\n\n".join(blocks)


def _device(content: _Found) -> list[str]:
  """One device: what it is, a table per stage, what went wrong."""
  bench = content["bench"]
  facts: dict[str, Any] = {}
  for item in bench["device"]["results"]:
    facts |= item.get("facts", {}) | {
      key: item[key] for key in ("versions", "date") if key in item
    }
  if facts.get("platform") == "cpu":
    raise ValueError("it is of a CPU")
  blocks = [f"## {content['device_kind']}", _about(facts)]
  for stage, found in bench.items():
    results = found["results"]
    its = [r for r in results if "error" not in r and "skipped" not in r]
    blocks += _TABLES.get(stage, _no_table)(its)
    problems = [found["error"]] if "error" in found else []
    problems += [
      f"{item.get('item', stage)}: {item.get('error') or item['skipped']}"
      for item in results
      if "error" in item or "skipped" in item
    ]
    lines = (f"- {stage}: {text.code(line)}" for line in _each_once(problems))
    if said := "\n".join(lines):
      blocks.append(f"Not measured:\n\n{said}")
  return blocks


def _each_once(lines: Iterable[str]) -> list[str]:
  return list(dict.fromkeys(" ".join(line.split()) for line in lines))


def _about(facts: _Found) -> str:
  """Versions, and the rates that others are held against."""
  versions = facts.get("versions", {})
  named = [f"{k} {v}" for k, v in versions.items() if v]
  rates = [
    f"{word} {facts[key]:.0f} {unit}"
    for key, word, unit in (
      ("copy_gb_per_s", "a copy", "GB/s"),
      ("bfloat16_tflop_per_s", "products in bfloat16", "TFLOP/s"),
      ("tf32_tflop_per_s", "in TF32", "TFLOP/s"),
      ("float32_tflop_per_s", "in float32", "TFLOP/s"),
    )
    if key in facts
  ]
  date = f"By {facts['date']}. " if "date" in facts else ""
  return f"{date}{', '.join(named)}. Measured: {', '.join(rates) or 'none'}."


def _no_table(its: Sequence[_Found]) -> list[str]:
  return []


def _ms(found: _Found, key: str = "seconds") -> str:
  value = found.get(key)
  return "" if value is None else f"{1e3 * value:.3g}"


def _steps(its: Sequence[_Found]) -> list[str]:
  """Ours and the peer's, side by side."""
  by_item = {each["item"]: each for each in its}
  rows = []
  for item, own in by_item.items():
    who, _, what = item.partition(" ")
    if who != "normjax":
      continue
    peer = by_item.get(f"flax.linen {what}")
    mfu, rate = own.get("mfu"), own["examples_per_s"]
    rows.append(
      (
        what,
        _ms(own),
        _ms(own, "device_s"),
        "" if peer is None else _ms(peer),
        "" if peer is None else f"{own['seconds'] / peer['seconds']:.2f}",
        f"{rate:.4g} {own['unit']}/s",
        "" if mfu is None else f"{100 * mfu:.0f}%",
        _gib(own.get("peak_bytes")),
      )
    )
  header = (
    "training step", "ms", "device ms", "flax.linen + optax, ms",
    "time, ours / theirs", "rate", "MFU", "peak GiB",
  )  # fmt: skip
  return [text.table(header, rows)] if rows else []


def _gib(size_bytes: float | None) -> str:
  return "" if size_bytes is None else f"{size_bytes / 2**30:.1f}"


def _kernels(its: Sequence[_Found]) -> list[str]:
  rows = [
    (
      text.code(each["op"]),
      each["spec"],
      each["pass"],
      text.code(each["impl"]),
      f"{1e6 * each['median_s']:.1f}",
      f"{each['bytes_per_s'] / 1e9:.0f}",
      f"{100 * each['of_copy']:.0f}",
      _ratio(each.get("yardstick_over_this")),
      each["clock"],
    )
    for each in its
  ]
  header = (
    "op", "arguments", "pass", "by", "µs", "GB/s", "% of a copy",
    "time, xla / this", "clock",
  )  # fmt: skip
  return [text.table(header, rows)] if rows else []


def _ratio(value: float | None) -> str:
  return "" if value is None else f"{value:.2f}"


def _optimizers(its: Sequence[_Found]) -> list[str]:
  rows = [
    (
      text.code(each["item"].removeprefix("normjax ")),
      _ms(each),
      _ms(each, "device_s"),
    )
    for each in its
  ]
  header = ("one update", "ms", "device ms")
  return [text.table(header, rows)] if rows else []


def _deterministic(its: Sequence[_Found]) -> list[str]:
  rows = [
    (each["item"], "yes" if each["equal"] else "**no**", _ms(each))
    for each in its
  ]
  header = ("steps, twice", "the same bits", "ms per step")
  return [text.table(header, rows)] if rows else []


def _populations(its: Sequence[_Found]) -> list[str]:
  rows = [
    (
      each["item"],
      _ms(each, "alone_s"),
      _ms(each, "together_s"),
      _ratio(each.get("alone_over_together")),
    )
    for each in its
  ]
  header = (
    "a step of", "one by one, ms", "together, ms", "time, alone / together",
  )  # fmt: skip
  return [text.table(header, rows)] if rows else []


_TABLES: Mapping[str, Callable[[Sequence[_Found]], list[str]]] = {
  "steps": _steps,
  "kernels": _kernels,
  "optimizers": _optimizers,
  "populations": _populations,
  "deterministic": _deterministic,
}
