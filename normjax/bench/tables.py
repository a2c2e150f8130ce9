"""What the benchmarks print and write."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normjax import errors, faults
from normjax.bench import torch_client
from normjax.record import files, provenance

_BUSY = 0.5
_INSTALL = "pip install 'normjax[bench]'"
ROUNDS_NOTE = (
  "Medians of rounds in turn; the ratio is the median of the rounds' ratios"
  " [smallest, largest]."
)


def here() -> str:
  """The machine, as notes name it."""
  cores = len(os.sched_getaffinity(0))
  return f"{jax.devices()[0].device_kind}, {cores} cores"


def milliseconds(seconds: float) -> str:
  """One digit after the point."""
  return f"{1e3 * seconds:.1f}"


def ratio(record: Mapping[str, Any]) -> str:
  """Median and range of a record of `contest.compare`; empty without."""
  if "ratios" not in record:
    return ""
  low, high = min(record["ratios"]), max(record["ratios"])
  return f"{record['ratio']:.2f} [{low:.2f}, {high:.2f}]"


def mebibytes(facts: Mapping[str, Any], key: str) -> str:
  """Empty where the number is not known."""
  return "" if facts.get(key) is None else f"{facts[key] / 2**20:.0f}"


def images(sizes: Sequence[str]) -> tuple[int, ...]:
  """The shape that `--images` names.

  Raises:
    UserError: it is none of images.
  """
  try:
    shape = tuple(int(size) for size in sizes)
  except ValueError:
    shape = ()
  if len(shape) != 4 or min(shape) < 1:
    raise errors.UserError(
      f"--images={','.join(sizes)}: four positive integers, (b, y, x, c), such"
      " as 64,32,32,3."
    )
  return shape


def connect(
  stack: contextlib.ExitStack,
  options: Mapping[str, Any],
  console: Console,
  needs: Sequence[str],
) -> tuple[torch_client.TorchPeers | None, dict[str, Any]]:
  """The PyTorch peers, or None after a word on what is missing.

  Args:
    stack: closes them.
    options: `peers` and `peer_python`.
    console: where the word goes.
    needs: the packages of this benchmark.

  Returns:
    The peers and their packages' versions.

  Raises:
    UserError: an interpreter that does not start.
  """
  if not options["peers"]:
    return None, {}
  python = options["peer_python"] or sys.executable
  client = stack.enter_context(torch_client.TorchPeers(python))
  versions = client.hello()["versions"]
  missing = [
    package
    for package, version in versions.items()
    if not version and package in needs
  ]
  if missing:
    console.print(
      f"{python} lacks {', '.join(missing)}: peers that need them are left"
      f" out. {_INSTALL}, or name another interpreter: --peer_python=PATH.",
      markup=False,
    )
  return (None if "torch" in missing else client), versions


class Report:
  """Rows of a table, printed at the end and written as they come."""

  def __init__(
    self,
    console: Console,
    name: str,
    columns: Sequence[str],
    note: str,
    out: str | None,
    **facts: Any,
  ):
    """Says so when the machine is busy.

    Args:
      console: where the table goes.
      name: of the benchmark, and of its files.
      columns: the headings; the first is the subject.
      note: printed below.
      out: the folder of the files, or None.
      **facts: what goes into the JSON file beside the results.

    Raises:
      OSError: the folder cannot be made, or not be written to.
    """
    if out:  # Before all is measured, not after.
      faults.make_writable(Path(out))
    self._console, self._name, self._note, self._out = console, name, note, out
    self._columns, self._facts = tuple(columns), facts
    self._provenance = provenance.collect()
    self._load_before = os.getloadavg()
    self._rows: list[tuple[str, ...]] = []
    self._results: list[Mapping[str, Any]] = []
    if self._load_before[0] > _BUSY:
      console.print(
        f"Load average {self._load_before[0]:.1f}: what else runs here slows"
        " all, and PyTorch's threads, which wait spinning, most."
      )

  def add(
    self, result: Mapping[str, Any], rows: Sequence[tuple[str, ...]]
  ) -> None:
    """Takes a result and writes the files anew.

    After each, so that a long run that is stopped leaves what it has.
    """
    self._results.append(result)
    self._rows += rows
    if not self._out:
      return
    record = {
      **self._facts,
      "provenance": self._provenance,
      "load_average": {"before": self._load_before, "after": os.getloadavg()},
      "results": self._results,
    }
    folder = Path(self._out)
    files.write_json(folder / f"{self._name}.json", files.finite(record))
    lines = [self._columns, ("---",) * len(self._columns), *self._rows]
    body = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    files.write_text(folder / f"{self._name}.md", f"{self._note}\n\n{body}")

  def show(self) -> None:
    """Prints the table."""
    table = Table(
      box=box.SIMPLE_HEAD, title=f"normjax bench {self._name}", padding=0
    )
    for column in self._columns:
      is_text = column in (self._columns[0], "peer")
      table.add_column(
        column, justify="left" if is_text else "right", overflow="fold"
      )
    for row in self._rows:
      table.add_row(*map(Text, row))
    self._console.print(table)
    self._console.print(self._note, markup=False, highlight=False)
    if self._out:
      self._console.print(
        f"{self._out}/{self._name}.json, {self._name}.md", markup=False
      )
