"""What one update of every optimizer takes, beside its peers."""

import contextlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from rich.console import Console

from normjax import optim
from normjax.bench import contest, leaves, peers, tables, torch_client
from normjax.types import PyTree

_COLUMNS = (
  "optimizer", "ms", "peer", "its ms", "ms, ours/its", "compile s",
  "compile, ours/its", "temporary MiB", "state B/entry",
)  # fmt: skip
_NEEDS = ("torch", "adamp", "pytorch_optimizer", "bitsandbytes")


def _pair(
  ours: contest.Contestant,
  rival: contest.Contestant,
  options: Mapping[str, Any],
) -> dict[str, Any]:
  return contest.pair(ours, rival, options["repeats"], options["budget_s"])


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
    else contest.time_rounds([ours], options["repeats"], options["budget_s"])[0]
  )
  return {
    "name": name,
    **ours.facts,
    "state_bytes_per_entry": leaves.state_bytes_per_entry(tx, shapes),
    "step_s": statistics.median(rounds_s),
    "rounds_s": rounds_s,
    "peers": records,
  }


def _rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """One row a peer; the optimizer's own numbers stand in the first."""
  if "error" in result:
    return [(result["name"], "", result["error"], *("" for _ in _COLUMNS[3:]))]
  rows = []
  for peer in result["peers"] or [{}]:
    compile_ratio = peer.get("compile_ratio")
    first = (
      result["name"],
      f"{result['compile_s']:.1f}",
      tables.mebibytes(result, "temp_bytes"),
      f"{result['state_bytes_per_entry']:.3f}",
    )
    name, compile_s, temp, state = ("", "", "", "") if rows else first
    rows.append(
      (
        name,
        tables.milliseconds(peer.get("ours_step_s", result["step_s"])),
        " ".join(peer.get(key, "") for key in ("name", "error")).strip(),
        tables.milliseconds(peer["step_s"]) if "step_s" in peer else "",
        tables.ratio(peer),
        compile_s,
        "" if compile_ratio is None else f"{compile_ratio:.2f}",
        temp,
        state,
      )
    )
  return rows


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
    f" {len(jax.tree.leaves(shapes))} leaves on {tables.here()}."
    f" {tables.ROUNDS_NOTE}"
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(contest.no_compilation_cache())
    client, versions = tables.connect(stack, options, console, _NEEDS)
    report = tables.Report(
      console,
      "optim",
      _COLUMNS,
      note,
      options["out"],
      sizes=sizes,
      peer_versions=versions,
    )
    for name in names:
      with console.status(name):
        result = _measure(name, shapes, client, options)
      report.add(result, _rows(result))
  report.show()
