"""What a ResNet's step takes in each mode of `ConvNorm`: arXiv:2305.11624."""

import contextlib
import statistics
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console

from normjax import convert, models
from normjax.bench import contest, tables
from normjax.nn import variables as nn_variables
from normjax.nn.conv_norm import CONV_NORM_MODES

# What the others are compared with: the mode that tune is to replace.
BASELINE = "eval"
DEPLOY = "deploy"
_LEARNING_RATE = 1e-3
_COLUMNS = (
  "mode", "ms", f"ms, /{BASELINE}", "compile s", "temporary MiB",
  f"temporary, /{BASELINE}",
)  # fmt: skip


def contestant(
  mode: str, shape: tuple[int, ...], depth: int
) -> contest.Contestant:
  """A step of gradient descent on one batch of images.

  Args:
    mode: of `nn.conv_norm.CONV_NORM_MODES`, or "deploy": "eval", folded for
      good.
    shape: (b, y, x, c).
    depth: of a `cifar_resnet` with batch_norm.

  Raises:
    UserError: a shape or a depth that the model does not take.
  """
  model = models.make(
    "cifar_resnet",
    input_shape=shape[1:],
    depth=depth,
    norm="batch_norm",
    conv_norm_mode="eval" if mode == DEPLOY else mode,
    rngs=nnx.Rngs(0),
  )
  structure, variables = nn_variables.split(
    convert.deploy(model) if mode == DEPLOY else model
  )

  def step(variables, images, labels):
    def mean_loss(params):
      model = nn_variables.merge(structure, {**variables, "params": params})
      log_p = jax.nn.log_softmax(model(images, train=True))
      picked = jnp.take_along_axis(log_p, labels[:, None], axis=1)
      return -jnp.mean(picked), nn_variables.split(model)[1]

    gradient, new = jax.grad(mean_loss, has_aux=True)(variables["params"])
    params = jax.tree.map(
      lambda leaf, slope: leaf - _LEARNING_RATE * slope,
      variables["params"],
      gradient,
    )
    return {**new, "params": params}, ()

  images = jax.random.normal(jax.random.key(0), shape)
  labels = jnp.arange(shape[0]) % 10
  return contest.from_step(mode, step, variables, images, labels)


def _row(result: Mapping[str, Any]) -> tuple[str, ...]:
  (peer,) = result["peers"] or [{}]
  memory = result["temp_bytes"], peer.get("temp_bytes")
  return (
    result["name"],
    tables.milliseconds(result["step_s"]),
    tables.ratio(peer),
    f"{result['compile_s']:.1f}",
    tables.mebibytes(result, "temp_bytes"),
    f"{memory[0] / memory[1]:.2f}" if memory[1] else "",
  )


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures every mode, and the folded model.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UserError: a bad shape or depth.
  """
  shape = tables.images(options["images"])
  depth = options["depth"]
  note = (
    f"A step of gradient descent of a ResNet-{depth} with batch_norm, x {shape}"
    f" float32, on {tables.here()}; train=True in all modes."
    f" {tables.ROUNDS_NOTE}"
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(contest.no_compilation_cache())
    report = tables.Report(
      console,
      "conv_norm",
      _COLUMNS,
      note,
      options["out"],
      shape=shape,
      depth=depth,
    )
    with console.status("compiling"):
      made = {
        mode: contestant(mode, shape, depth)
        for mode in (*CONV_NORM_MODES, DEPLOY)
      }
    rounds = contest.time_rounds(
      list(made.values()), options["repeats"], options["budget_s"]
    )
    seconds = dict(zip(made, rounds, strict=True))
    for mode, ours in made.items():
      rival = made[BASELINE], seconds[mode], seconds[BASELINE]
      result = {
        "name": mode,
        **ours.facts,
        "step_s": statistics.median(seconds[mode]),
        "rounds_s": seconds[mode],
        "peers": ([] if mode == BASELINE else [contest.compare(ours, *rival)]),
      }
      report.add(result, [_row(result)])
  report.show()
