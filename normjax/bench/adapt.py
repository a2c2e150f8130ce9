"""What a step of test-time adaptation takes, beside a plain forward pass.

All take turns in one run: each method, `source`, which is the model's own
evaluation of the same batch, and PyTorch's evaluation, train mode and Tent.
"""

import contextlib
import functools
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from rich.console import Console

from normjax import adapt, errors, models
from normjax.adapt import base
from normjax.bench import contest, tables, torch_client
from normjax.registry import parse_call

BASELINE = "source"
# What statistics, UnMix-TNS and gradients in scale and bias may cost, as
# multiples of a plain forward pass. `lame` moves neither.
STATISTICS, UNMIX, GRADIENT = 1.15, 1.5, 3.2
BARS: Mapping[str, float] = {
  **dict.fromkeys(("batch", "ema", "alpha_bn", "adabn", "iabn"), STATISTICS),
  "unmix_tns": UNMIX,
  **dict.fromkeys(("core", "tent", "eata", "sar", "note", "osuda"), GRADIENT),
}
TORCH_BASELINE = "torch evaluation"
# Of `torch_adapt.MODELS`, by what does the same here.
TORCH: Mapping[str, str] = {
  BASELINE: TORCH_BASELINE,
  "batch": "torch BatchNorm, train",
  "tent": "torch Tent",
}
_OF_IABN = ("iabn", "note")
_NUM_CLASSES = 10
_COLUMNS = (
  "method", "ms", f"ms, /{BASELINE}", "bar", "flops, /", "peer", "its ms",
  "its, /evaluation", "ms, ours/its", "compile s",
)  # fmt: skip


def adapter(spec: str, images: jax.Array, depth: int) -> base.Adapter:
  """A method on a `cifar_resnet`.

  Args:
    spec: "name" or "name(option=value)".
    images: (b, y, x, c), for what a method is made from.
    depth: of the network, with batch_norm, or iabn where a method needs it.

  Raises:
    UserError: an option, a shape or a depth that does not fit.
  """
  name, options = parse_call("adaptation method", spec)
  model = models.make(
    "cifar_resnet",
    input_shape=images.shape[1:],
    depth=depth,
    num_classes=_NUM_CLASSES,
    norm="iabn" if name in _OF_IABN else "batch_norm",
    rngs=nnx.Rngs(0),
  )
  return adapt.make(name, model, **{**_needed(name, images), **options})


def contestant(
  spec: str, method: base.Adapter, images: jax.Array
) -> contest.Contestant:
  """A step of a method on one batch: the state and the logits.

  Raises:
    UserError: a batch that is too small for the method.
  """

  def step(state, images):
    logits, state = method.step(state, images)
    return state, logits

  return contest.from_step(spec, step, method.init(), images)


def _needed(name: str, images: jax.Array) -> dict[str, Any]:
  """What a method cannot do without; a round of NOTE is one batch."""
  size = len(images)
  return {
    "note": {
      "input_shape": images.shape[1:], "capacity": size, "update_every": size
    },
    "eata": {"fisher_data": [images]},
  }.get(name, {})  # fmt: skip


def _torch_contestants(
  client: torch_client.TorchPeers | None, shape: tuple[int, ...], depth: int
) -> tuple[dict[str, contest.Contestant], dict[str, str]]:
  """Those that could be made, and why others could not."""
  made, failed = {}, {}
  if client is None:
    return made, failed
  size, side, _, _ = shape
  for name in TORCH.values():
    try:
      made[name] = client.model(
        "torch_adapt",
        name,
        num_classes=_NUM_CLASSES,
        side=side,
        depth=depth,
        width=16,
        batch_size=size,
      )
    except torch_client.PeerError as error:
      failed[name] = str(error)
  return made, failed


def results(
  ours: Mapping[str, contest.Contestant],
  theirs: Mapping[str, contest.Contestant],
  failed: Mapping[str, str],
  time: Callable[..., list[list[float]]],
) -> list[dict[str, Any]]:
  """A record per method, all timed in the same rounds.

  Args:
    ours: by what the table calls them, `source` among them.
    theirs: the peers that were made, by name.
    failed: the others, and why.
    time: contestants to the seconds of a step of each, by round.
  """
  entries = [*ours.values(), *theirs.values()]
  seconds = dict(zip([*ours, *theirs], time(entries), strict=True))

  def compared(name, other, of):
    return contest.compare(of[name], of[other], seconds[name], seconds[other])

  everyone = {**ours, **theirs}
  found = []
  for spec, each in ours.items():
    name = spec.partition("(")[0]
    beside = compared(spec, BASELINE, everyone)
    record = {
      "name": spec,
      **each.facts,
      "step_s": statistics.median(seconds[spec]),
      "rounds_s": seconds[spec],
      "of_source": beside["ratio"],
      "peers": [] if spec == BASELINE else [beside],
    }
    if spec != BASELINE and name in BARS:
      record["bar"] = BARS[name]
      record["within_bar"] = beside["ratio"] <= BARS[name]
    flops = each.facts.get("flops"), ours[BASELINE].facts.get("flops")
    if all(flops):
      record["flops_of_source"] = flops[0] / flops[1]
    peer = TORCH.get(name)
    if peer in failed:
      record["torch"] = {"name": peer, "error": failed[peer]}
    elif peer in theirs:
      record["torch"] = compared(spec, peer, everyone)
      if TORCH_BASELINE in theirs:
        own = compared(peer, TORCH_BASELINE, everyone)
        record["torch"]["of_evaluation"] = own["ratio"]
    found.append(record)
  return found


def row(result: Mapping[str, Any]) -> tuple[str, ...]:
  """One row of the table."""
  if "error" in result:
    return (result["name"], "", result["error"], *("" for _ in _COLUMNS[3:]))
  peer = result.get("torch", {})
  (beside,) = result["peers"] or [{}]
  bar = ""
  if "bar" in result:
    bar = f"{result['bar']:g} {'met' if result['within_bar'] else 'missed'}"
  flops, of_torch = result.get("flops_of_source"), peer.get("of_evaluation")
  return (
    result["name"],
    tables.milliseconds(result["step_s"]),
    tables.ratio(beside),
    bar,
    "" if flops is None else f"{flops:.2f}",
    " ".join(peer.get(key, "") for key in ("name", "error")).strip(),
    tables.milliseconds(peer["step_s"]) if "step_s" in peer else "",
    "" if of_torch is None else f"{of_torch:.2f}",
    tables.ratio(peer),
    f"{result['compile_s']:.1f}",
  )


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures the methods of `options["methods"]`, or all.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UserError: a bad method, option, shape or depth, or an interpreter that
      does not start.
  """
  shape, depth = tables.images(options["images"]), options["depth"]
  if shape[1] != shape[2] or shape[3] != 3:
    raise errors.UserError(
      f"--images={','.join(options['images'])}: adapt has square images of 3"
      " channels, (b, y, y, 3), as its PyTorch peers."
    )
  specs = dict.fromkeys([BASELINE, *(options["methods"] or adapt.names())])
  for spec in specs:
    adapt.get(parse_call("adaptation method", spec)[0])
  note = (
    f"A step of adaptation of a ResNet-{depth} on a batch {shape} of float32,"
    f" on {tables.here()}; `{BASELINE}` is a plain forward pass of it, in"
    " evaluation. Bars are on the ratio of times. Flops are XLA's count before"
    f" it optimizes, beside `{BASELINE}`'s. {tables.ROUNDS_NOTE}"
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(contest.no_compilation_cache())
    client, versions = tables.connect(stack, options, console, ("torch",))
    report = tables.Report(
      console,
      "adapt",
      _COLUMNS,
      note,
      options["out"],
      shape=shape,
      depth=depth,
      peer_versions=versions,
    )
    images = jax.random.normal(jax.random.key(0), shape)
    unfit: list[dict[str, str]] = []

    def each(specs, make):
      """What fits; of all methods, those that do not are rows."""
      made = {}
      for spec in specs:
        try:
          with console.status(spec):
            made[spec] = make(spec)
        except errors.UserError as error:
          if options["methods"] or spec == BASELINE:
            raise
          unfit.append({"name": spec, "error": str(error)})
      return made

    # All, before the first is compiled: a bad option is told at once.
    adapters = each(specs, lambda spec: adapter(spec, images, depth))
    ours = each(adapters, lambda spec: contestant(spec, adapters[spec], images))
    theirs, failed = _torch_contestants(client, shape, depth)
    time = functools.partial(
      contest.time_rounds,
      repeats=options["repeats"],
      budget_s=options["budget_s"],
    )
    with console.status("timing"):
      found = results(ours, theirs, failed, time)
    for result in (*found, *unfit):
      report.add(result, [row(result)])
  report.show()
