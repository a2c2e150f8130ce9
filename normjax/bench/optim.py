"""What one update of every optimizer takes, beside its peers."""

import contextlib
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normjax import optim
from normjax.bench import contest, leaves, peers, torch_client
from normjax.record import files, provenance
from normjax.types import PyTree

_COLUMNS = (
  "optimizer", "ms", "peer", "its ms", "ms, ours/its", "compile s",
  "compile, ours/its", "temporary MiB", "state B/entry",
)  # fmt: skip
_BUSY = 0.5
_INSTALL = "pip install 'normjax[bench]'"


@contextlib.contextmanager
def _no_compilation_cache() -> Iterator[None]:
  """Compile times are those of a program that was never compiled."""
  before = jax.config.jax_enable_compilation_cache
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


def _pair(
  ours: contest.Contestant,
  rival: contest.Contestant,
  options: Mapping[str, Any],
) -> dict[str, Any]:
  """Rounds of the two, in turn."""
  ours_s, rival_s = contest.hold(
    [ours, rival], options["repeats"], options["budget_s"]
  )
  ratios = [a / b for a, b in zip(ours_s, rival_s, strict=True)]
  record = {
    "name": rival.label,
    **rival.facts,
    "step_s": statistics.median(rival_s),
    "rounds_s": rival_s,
    "ours_step_s": statistics.median(ours_s),
    "ours_rounds_s": ours_s,
    "ratios": ratios,
    "ratio": statistics.median(ratios),
  }
  if "compile_s" in rival.facts:
    record["compile_ratio"] = ours.facts["compile_s"] / rival.facts["compile_s"]
  return record


def _peers(
  ours: contest.Contestant,
  shapes: PyTree,
  client: torch_client.TorchPeers | None,
  options: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
  for peer in peers.OPTAX.get(ours.label, ()):
    rival = contest.from_optax(peer.label, peer.make(shapes), shapes)
    yield _pair(ours, rival, options)
  if client is None:
    return
  for label in peers.TORCH.get(ours.label, ()):
    try:
      rival = client.contestant(label, leaves.as_torch(shapes))
      yield _pair(ours, rival, options)
      client.drop()
    except torch_client.PeerError as error:
      yield {"name": label, "error": str(error)}


def _measure(
  name: str,
  shapes: PyTree,
  client: torch_client.TorchPeers | None,
  options: Mapping[str, Any],
) -> dict[str, Any]:
  """All numbers of one optimizer, or why there are none."""
  try:
    tx = optim.make(
      name, learning_rate=peers.LEARNING_RATE, **peers.OPTIONS.get(name, {})
    )
    ours = contest.from_optax(name, tx, shapes)
  except (TypeError, ValueError) as error:
    return {"name": name, "error": str(error), "peers": []}
  records = list(_peers(ours, shapes, client, options))
  timed = [record for record in records if "ratio" in record]
  # What has a peer is timed beside it; the first one's rounds speak for it.
  rounds_s = (
    timed[0]["ours_rounds_s"]
    if timed
    else contest.hold([ours], options["repeats"], options["budget_s"])[0]
  )
  return {
    "name": name,
    **ours.facts,
    "state_bytes_per_entry": leaves.state_bytes_per_entry(tx, shapes),
    "step_s": statistics.median(rounds_s),
    "rounds_s": rounds_s,
    "peers": records,
  }


def _ms(seconds: float) -> str:
  return f"{1e3 * seconds:.1f}"


def _rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """One row a peer; the optimizer's own numbers stand in the first."""
  if "error" in result:
    return [(result["name"], "", result["error"], *("" for _ in _COLUMNS[3:]))]
  rows = []
  for peer in result["peers"] or [{}]:
    ratio = ""
    if "ratios" in peer:
      low, high = min(peer["ratios"]), max(peer["ratios"])
      ratio = f"{peer['ratio']:.2f} [{low:.2f}, {high:.2f}]"
    compile_ratio = peer.get("compile_ratio")
    temporary = result.get("temp_bytes")
    first = (
      result["name"],
      f"{result['compile_s']:.1f}",
      "" if temporary is None else f"{temporary / 2**20:.0f}",
      f"{result['state_bytes_per_entry']:.3f}",
    )
    name, compile_s, temp, state = ("", "", "", "") if rows else first
    rows.append(
      (
        name,
        _ms(peer.get("ours_step_s", result["step_s"])),
        " ".join(peer.get(key, "") for key in ("name", "error")).strip(),
        _ms(peer["step_s"]) if "step_s" in peer else "",
        ratio,
        compile_s,
        "" if compile_ratio is None else f"{compile_ratio:.2f}",
        temp,
        state,
      )
    )
  return rows


def _markdown(rows: list[tuple[str, ...]], note: str) -> str:
  lines = [_COLUMNS, ("---",) * len(_COLUMNS), *rows]
  return (
    note + "\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)
  )


def _connect(
  stack: contextlib.ExitStack, python: str, console: Console
) -> tuple[torch_client.TorchPeers | None, dict[str, Any]]:
  """The PyTorch peers, or None after a word on what is missing."""
  client = stack.enter_context(torch_client.TorchPeers(python))
  versions = client.hello()["versions"]
  missing = [package for package, version in versions.items() if not version]
  if missing:
    console.print(
      f"{python} lacks {', '.join(missing)}: peers that need them are left"
      f" out. {_INSTALL}, or name another interpreter: --peer_python=PATH.",
      markup=False,
    )
  return (None if "torch" in missing else client), versions


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures the optimizers of `options["methods"]`, or all.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UnknownNameError: no such optimizer.
    UserError: an interpreter that does not start.
  """
  names = options["methods"] or optim.names()
  for name in names:
    optim.REGISTRY.get(name)
  sizes = {
    key: options[key]
    for key in ("num_layers", "model_dim", "hidden_dim", "vocab_size")
  }
  shapes = leaves.llama(**sizes)
  entries = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  note = (
    f"One update of {entries / 1e6:.1f}M float32 parameters in"
    f" {len(jax.tree.leaves(shapes))} leaves on {jax.devices()[0].device_kind},"
    f" {len(os.sched_getaffinity(0))} cores. Medians of rounds in turn; the"
    " ratio is the median of the rounds' ratios [smallest, largest]."
  )
  table = Table(box=box.SIMPLE_HEAD, title="normjax bench optim", padding=0)
  for column in _COLUMNS:
    is_text = column in ("optimizer", "peer")
    table.add_column(
      column, justify="left" if is_text else "right", overflow="fold"
    )
  rows, results, versions = [], [], {}
  facts = provenance.collect()
  load_before = os.getloadavg()
  if load_before[0] > _BUSY:
    console.print(
      f"Load average {load_before[0]:.1f}: what else runs here slows all, and"
      " PyTorch's threads, which wait spinning, most."
    )
  with contextlib.ExitStack() as stack:
    stack.enter_context(_no_compilation_cache())
    client = None
    if options["peers"]:
      python = options["peer_python"] or sys.executable
      client, versions = _connect(stack, python, console)
    jax.jit(jnp.sum).lower(jnp.ones(3)).compile()  # The compiler's own start.
    for name in names:
      with console.status(name):
        results.append(_measure(name, shapes, client, options))
      rows += _rows(results[-1])
      if options["out"]:
        # After each, so that a long run that is stopped leaves what it has.
        record = {
          "sizes": sizes,
          "provenance": facts,
          "peer_versions": versions,
          "load_average": {"before": load_before, "after": os.getloadavg()},
          "results": results,
        }
        folder = Path(options["out"])
        files.write_json(folder / "optim.json", files.finite(record))
        files.write_text(folder / "optim.md", _markdown(rows, note))
  for row in rows:
    table.add_row(*map(Text, row))
  console.print(table)
  console.print(note, markup=False, highlight=False)
  if options["out"]:
    console.print(f"{options['out']}/optim.json, optim.md", markup=False)
