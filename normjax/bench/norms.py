"""What every norm's forward and backward pass take, beside peers."""

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from rich.console import Console

from normjax import errors, norms
from normjax.bench import contest, tables, torch_client
from normjax.types import Array, PyTree

# What those without a peer elsewhere are timed beside.
BASELINE = "rms_norm"
_COLUMNS = (
  "norm", "ms", "peer", "its ms", "ms, ours/its", "compile s",
  "temporary MiB",
)  # fmt: skip
_EPS = 1e-6

# As their users write them; options of ours match them.
LINEN: Mapping[str, tuple[str, Callable[[], linen.Module]]] = {
  "layer_norm": ("flax.linen.LayerNorm", linen.LayerNorm),
  "rms_norm": ("flax.linen.RMSNorm", linen.RMSNorm),
  "batch_norm": (
    "flax.linen.BatchNorm",
    lambda: linen.BatchNorm(use_running_average=False, momentum=0.9),
  ),
  "group_norm": ("flax.linen.GroupNorm", linen.GroupNorm),
}
# Names of `torch_peers.NORMS`.
TORCH: Mapping[str, str] = {
  "layer_norm": "torch F.layer_norm",
  "rms_norm": "torch F.rms_norm",
  "batch_norm": "torch F.batch_norm",
  "group_norm": "torch F.group_norm",
}

# (collections that are differentiated, x) -> (y, new statistics).
_Apply = Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]


def _contestant(
  label: str, apply: _Apply, inputs: PyTree, stats: PyTree, shape
) -> contest.Contestant:
  """y, the gradients of all inputs and of x, and the new statistics."""

  def step(stats, inputs, x, dy):
    y, vjp, stats = jax.vjp(
      lambda inputs, x: apply(inputs, stats, x), inputs, x, has_aux=True
    )
    return stats, (y, vjp(dy))

  x, dy = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
  return contest.from_step(label, step, stats, inputs, x, dy)


def ours(name: str, shape: tuple[int, ...]) -> contest.Contestant:
  """The norm with its paper's options.

  Raises:
    UserError: it does not fit the shape.
  """
  norm = norms.make(name)
  if norm.traits.spatial_only:
    shape = images(shape)
  spatial = norm.traits.spatial_only
  variables = norm.init(shape[1:] if spatial else shape[-1:])

  def apply(inputs, stats, x):
    return norm.apply({**inputs, "stats": stats}, x)

  stats = variables.pop("stats")
  return _contestant(name, apply, variables, stats, shape)


def linen_peer(name: str, shape: tuple[int, ...]) -> contest.Contestant:
  """Flax's module of the same name."""
  label, make = LINEN[name]
  if norms.make(name).traits.spatial_only:
    shape = images(shape)
  module = make()
  variables = module.init(jax.random.key(0), jnp.zeros((2, shape[-1])))
  stats = variables.get("batch_stats", {})

  def apply(params, stats, x):
    y, changed = module.apply(
      {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
    )
    return y, changed.get("batch_stats", {})

  return _contestant(label, apply, variables["params"], stats, shape)


def images(shape: tuple[int, ...]) -> tuple[int, ...]:
  """As many values, as images (b, y, x, c) that are as square as they can."""
  rows, channels = math.prod(shape[:-1]), shape[-1]
  side = math.isqrt(rows)
  while side * side > rows or rows % (side * side):
    side -= 1
  # Eight images or more, where the rows allow it.
  while rows // (side * side) < 8 and side % 2 == 0:
    side //= 2
  return rows // (side * side), side, side, channels


def _rivals(
  name: str,
  shape: tuple[int, ...],
  client: torch_client.TorchPeers | None,
) -> Iterator[contest.Contestant]:
  if name in LINEN:
    yield linen_peer(name, shape)
  elif name != BASELINE:
    yield ours(BASELINE, shape)
  if name in TORCH and client is not None:
    yield client.norm(TORCH[name], shape, _EPS)


def _measure(
  name: str,
  shape: tuple[int, ...],
  client: torch_client.TorchPeers | None,
  options: Mapping[str, Any],
) -> dict[str, Any]:
  """All numbers of one norm, or why there are none."""
  try:
    contestant = ours(name, shape)
  except (TypeError, ValueError, errors.UserError) as error:
    return {"name": name, "error": str(error), "peers": []}
  rounds = options["repeats"], options["budget_s"]
  try:
    rivals = list(_rivals(name, shape, client))
    failed = []
  except torch_client.PeerError as error:
    rivals = list(_rivals(name, shape, None))
    failed = [{"name": TORCH[name], "error": str(error)}]
  seconds, *theirs = contest.hold([contestant, *rivals], *rounds)
  return {
    "name": name,
    **contestant.facts,
    "step_s": statistics.median(seconds),
    "rounds_s": seconds,
    "peers": [
      contest.compare(contestant, rival, seconds, rival_s)
      for rival, rival_s in zip(rivals, theirs, strict=True)
    ]
    + failed,
  }


def _rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """One row a peer; the norm's own numbers stand in the first."""
  if "error" in result:
    return [(result["name"], "", result["error"], *("" for _ in _COLUMNS[3:]))]
  rows = []
  for peer in result["peers"] or [{}]:
    name = peer.get("name", "")
    own = (
      result["name"],
      tables.milliseconds(result["step_s"]),
      f"{result['compile_s']:.2f}",
      tables.mebibytes(result, "temp_bytes"),
    )
    subject, ms, compile_s, temporary = ("",) * 4 if rows else own
    rows.append(
      (
        subject,
        ms,
        # Our own norm as the yardstick.
        " ".join((name, peer.get("error", ""))).strip(),
        tables.milliseconds(peer["step_s"]) if "step_s" in peer else "",
        tables.ratio(peer),
        compile_s,
        temporary,
      )
    )
  return rows


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures the norms of `options["norms"]`, or all.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UnknownNameError: no such norm.
    UserError: a bad shape, or an interpreter that does not start.
  """
  names = options["norms"] or norms.names()
  for name in names:
    norms.make(name)
  try:
    shape = tuple(int(size) for size in options["shape"])
  except ValueError:
    shape = ()
  if len(shape) < 2 or min(shape) < 1:
    raise errors.UserError(
      f"--shape={','.join(options['shape'])}: two positive integers or more,"
      " such as 8192,1024."
    )
  note = (
    f"Forward and backward pass, x {shape} float32, on {tables.here()}."
    f" {tables.ROUNDS_NOTE}"
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(contest.no_compilation_cache())
    client, versions = tables.connect(stack, options, console, ("torch",))
    report = tables.Report(
      console,
      "norms",
      _COLUMNS,
      note,
      options["out"],
      shape=shape,
      peer_versions=versions,
    )
    for name in names:
      with console.status(name):
        result = _measure(name, shape, client, options)
      report.add(result, _rows(result))
  report.show()
