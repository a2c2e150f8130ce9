"""Bytes, kernels, registers and spills of the ops, by compiling alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kernels_pallas import aot, dispatch
from kernels_pallas.bench import passes
from kernels_pallas.specs import ArgumentSpec

COLUMNS = (
  "op", "arguments", "target", "impl", "pass", "bytes / ideal", "MB",
  "kernels", "temporary MB", "registers", "spilled B",
)  # fmt: skip


def facts(compiled: aot.Compiled) -> dict[str, int]:
  """What records hold of a program."""
  return {
    "bytes": compiled.bytes,
    "kernels": compiled.kernels,
    "temporary_bytes": compiled.temporary_bytes,
    "registers": compiled.registers,
    "spilled_bytes": compiled.spilled_bytes,
  }


def measure(
  name: str, spec: ArgumentSpec, target: str, impl: str
) -> Iterator[dict[str, Any]]:
  """A record for each pass, or one with the reason why there is none."""
  about = {"op": name, "spec": spec.name, "target": target, "impl": impl}
  try:
    with aot.abstract(target):
      found = passes.of_op(name, spec, impl)
  except dispatch.UnsupportedError as error:
    yield {**about, "error": str(error)}
    return
  for each in found:
    about["pass"] = each.name
    try:
      compiled = aot.compile(
        each.function, *each.arguments, target=target, donate=each.donated
      )
    except Exception as error:  # Of any compiler's; the others go on.
      first = str(error).strip().partition("\n")[0]
      text = f"{name}, {spec.name}, {target}, {impl}, {each.name}: {first}"
      yield {**about, "failed": True, "error": text}
      continue
    ideal = passes.ideal_bytes(spec, each.name)
    yield {
      **about,
      **facts(compiled),
      "ideal_bytes": ideal,
      "bytes_over_ideal": compiled.bytes / ideal,
    }


def row(record: Mapping[str, Any]) -> Sequence[str]:
  """The cells of a record that has no error."""
  return (
    record["op"],
    record["spec"],
    record["target"],
    record["impl"],
    record["pass"],
    f"{record['bytes_over_ideal']:.3f}",
    f"{record['bytes'] / 1e6:.0f}",
    str(record["kernels"]),
    f"{record['temporary_bytes'] / 1e6:.1f}",
    str(record["registers"] or ""),
    str(record["spilled_bytes"] if record["registers"] else ""),
  )
