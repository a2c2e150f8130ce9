"""What every norm's forward and backward pass take, beside peers.

EvoNorms contain their activation: they are timed beside our batch norm with an
activation, ReLU (the paper's baseline), and for the samplewise ones, which are
gated by a sigmoid, SiLU too.
"""

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from rich.console import Console

from normjax import errors, norms
from normjax.bench import contest, tables, torch_client
from normjax.nn import activation as activations
from normjax.types import Array, PyTree

_COLUMNS = (
  "norm", "x", "ms", "peer", "its ms", "ms, ours/its", "compile s",
  "temporary MiB",
)  # fmt: skip
_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Family:
  """Norms that are timed on the same arrays.

  Attributes:
    has: whether a norm of that name is one of them.
    shapes: of x, where `--shape` names none.
    baseline: what those without a peer elsewhere are timed beside.
  """

  has: Callable[[str], bool]
  shapes: tuple[tuple[int, ...], ...]
  baseline: str


def _of_images(name: str) -> bool:
  return name in _BATCH or norms.make(name).traits.mixes_positions


_BATCH = ("batch_norm", "batch_renorm")
_ROWS = ((8192, 1024),)
FAMILIES: Mapping[str, Family] = {
  # Those of images get rows as images.
  "all": Family(lambda name: True, _ROWS, "rms_norm"),
  "transformer": Family(
    lambda name: not norms.make(name).traits.mixes_positions, _ROWS, "rms_norm"
  ),
  # The first stage of a residual network, and the third of a large one.
  "vision": Family(
    _of_images, ((64, 32, 32, 64), (256, 14, 14, 256)), "batch_norm"
  ),
}
# As their users write them; options of ours match them.
LINEN: Mapping[str, tuple[str, Callable[[], linen.Module]]] = {
  "layer_norm": ("flax.linen.LayerNorm", linen.LayerNorm),
  "rms_norm": ("flax.linen.RMSNorm", linen.RMSNorm),
  "batch_norm": (
    "flax.linen.BatchNorm",
    lambda: linen.BatchNorm(use_running_average=False, momentum=0.9),
  ),
  "group_norm": ("flax.linen.GroupNorm", linen.GroupNorm),
  "instance_norm": ("flax.linen.InstanceNorm", linen.InstanceNorm),
}
# Names of `torch_peers.NORMS`.
TORCH: Mapping[str, str] = {
  "layer_norm": "torch F.layer_norm",
  "rms_norm": "torch F.rms_norm",
  "batch_norm": "torch F.batch_norm",
  "group_norm": "torch F.group_norm",
  "instance_norm": "torch F.instance_norm",
}
# Our norms with an activation, beside those that contain theirs.
_ACTIVATED: Mapping[str, tuple[tuple[str, str], ...]] = {
  **{f"evonorm_b{index}": (("batch_norm", "relu"),) for index in range(3)},
  **{
    f"evonorm_s{index}": (("batch_norm", "relu"), ("batch_norm", "silu"))
    for index in range(3)
  },
}


def _style(shape: tuple[int, ...]) -> tuple[Array, Array]:
  key = jax.random.key(2)
  mean = jax.random.normal(key, (shape[0], shape[-1]))
  return mean, 1 + jnp.square(mean)


# What conditional norms are given; from the shape of x.
_CONTEXTS: Mapping[str, Callable[[tuple[int, ...]], Any]] = {"adain": _style}

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


def ours(
  name: str, shape: tuple[int, ...], activation: str | None = None
) -> contest.Contestant:
  """The norm with its paper's options, and an activation after it.

  Raises:
    UserError: it does not fit the shape.
  """
  norm = norms.make(name)
  activate = activations.resolve(activation) if activation else lambda y: y
  context = _CONTEXTS[name](shape) if name in _CONTEXTS else None
  of_images = norm.traits.mixes_positions
  variables = norm.init(shape[1:] if of_images else shape[-1:])

  def apply(inputs, stats, x):
    y, stats = norm.apply({**inputs, "stats": stats}, x, context=context)
    return activate(y), stats

  stats = variables.pop("stats")
  label = f"{name} + {activation}" if activation else name
  return _contestant(label, apply, variables, stats, shape)


def linen_peer(name: str, shape: tuple[int, ...]) -> contest.Contestant:
  """Flax's module of the same name."""
  label, make = LINEN[name]
  module = make()
  sample = jnp.zeros((2, *(1 for _ in shape[2:]), shape[-1]))
  variables = module.init(jax.random.key(0), sample)
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


def _fitting(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape, or rows of it as images for a norm of images."""
  as_images = norms.make(name).traits.mixes_positions and len(shape) != 4
  return images(shape) if as_images else shape


def _rivals(
  name: str,
  shape: tuple[int, ...],
  baseline: str,
  client: torch_client.TorchPeers | None,
) -> Iterator[contest.Contestant]:
  if name in LINEN:
    yield linen_peer(name, shape)
  for other, activation in _ACTIVATED.get(name, ()):
    yield ours(other, shape, activation)
  if name not in LINEN and name not in _ACTIVATED and name != baseline:
    yield ours(baseline, shape)
  if name in TORCH and client is not None:
    yield client.norm(TORCH[name], shape, _EPS)


def _measure(
  name: str,
  shape: tuple[int, ...],
  baseline: str,
  client: torch_client.TorchPeers | None,
  options: Mapping[str, Any],
) -> dict[str, Any]:
  """All numbers of one norm, or why there are none."""
  shape = _fitting(name, shape)
  facts = {"name": name, "shape": shape}
  try:
    contestant = ours(name, shape)
  except (TypeError, ValueError, errors.UserError) as error:
    return {**facts, "error": str(error), "peers": []}
  rounds = options["repeats"], options["budget_s"]
  try:
    rivals = list(_rivals(name, shape, baseline, client))
    failed = []
  except torch_client.PeerError as error:
    rivals = list(_rivals(name, shape, baseline, None))
    failed = [{"name": TORCH[name], "error": str(error)}]
  seconds, *theirs = contest.time_rounds([contestant, *rivals], *rounds)
  return {
    **facts,
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
  about = result["name"], "x".join(map(str, result["shape"]))
  if "error" in result:
    return [(*about, "", result["error"], *("" for _ in _COLUMNS[4:]))]
  rows = []
  for peer in result["peers"] or [{}]:
    name = peer.get("name", "")
    own = (
      *about,
      tables.milliseconds(result["step_s"]),
      f"{result['compile_s']:.2f}",
      tables.mebibytes(result, "temp_bytes"),
    )
    subject, x, ms, compile_s, temporary = ("",) * 5 if rows else own
    rows.append(
      (
        subject,
        x,
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


def _shapes(flag: Sequence[str], family: Family) -> tuple[tuple[int, ...], ...]:
  """That of `--shape`, or the family's."""
  if not flag:
    return family.shapes
  try:
    shape = tuple(int(size) for size in flag)
  except ValueError:
    shape = ()
  if len(shape) < 2 or min(shape) < 1:
    raise errors.UserError(
      f"--shape={','.join(flag)}: two positive integers or more,"
      " such as 8192,1024."
    )
  return (shape,)


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures the norms of `options["norms"]`, or all of the family.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UnknownNameError: no such norm.
    UserError: a bad shape, or an interpreter that does not start.
  """
  family = FAMILIES[options["family"]]
  for name in options["norms"]:
    norms.make(name)
  names = options["norms"] or tuple(filter(family.has, norms.names()))
  shapes = _shapes(options["shape"], family)
  note = (
    f"Forward and backward pass, x float32, on {tables.here()}."
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
      family=options["family"],
      peer_versions=versions,
    )
    for shape in shapes:
      for name in names:
        with console.status(name):
          result = _measure(name, shape, family.baseline, client, options)
        report.add(result, _rows(result))
  report.show()
