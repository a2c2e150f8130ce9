"""What memory does a training step take with sparse plus low-rank matrices?

Claim: on one A100 LLaMA of 350M takes 4.5 GB with Adam, 3.5 with 8-bit Adam,
3.1 with 8-bit GaLore and 2.2 with 8-bit SLTrain, the last three updated layer
by layer; of 1B it takes 16.3, 11.8, 10.3 and 6.8 (arXiv:2406.02214, figure 3 in
its repository; batch and definition are not said there).
Command: normjax reproduce sltrain_memory --scale=proxy
Time: 3 minutes on two busy cores, compilation included.

Nothing is trained. `counted` is what a method holds from step to step, in
shapes alone: bfloat16 parameters, the optimizer's state and the positions of
sparse entries, 8 bytes each as in the official code; ours take 4. `peak` is
what the compiler says of our training step of one sequence of 256 tokens:
arguments, results that are in the memory of none, and temporaries, which are
gradients, activations and workspace.

`:proxy` counts five sizes and compiles LLaMA-60M's body, with 256 tokens in
place of 32,000, for the CPU; `:paper` counts 350M and 1B and compiles 350M for
an H200 that need not be there (`pip install '.[aot]'`).

Stated before any of these steps was compiled: that their peaks have the
figure's order, and that 8-bit SLTrain's is below 0.6 of Adam's, where the
figure has 0.49 of it. What is counted is arithmetic, and was known. So were the
peaks of Adam with float32 states and, on a CPU, of SLTrain with those.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normjax import papers

SCALES = ("proxy", "paper")
TARGET = "memory figure"
# Rows; `normjax.reproduce.step_memory` has the same.
ADAM, ADAM_8BIT, GALORE, SLTRAIN = METHODS = (
  "Adam",
  "8-bit Adam",
  "8-bit GaLore",
  "8-bit SLTrain",
)
PRINTED = {ADAM: ADAM} | {name: f"{name} per-layer" for name in METHODS[1:]}
COMPILED = {"proxy": "60M's body on a CPU", "paper": "350M on an H200"}
COUNTED = {
  "proxy": ("60M", "130M", "350M", "1B", "7B"),
  "paper": ("350M", "1B"),
}
# Millions of parameters: embedding and head apart, full and SLTrain; megabytes
# of int64 positions. From the shapes and `int(density * out * in)`.
PARAMETERS = {
  "60M": (58.1, 43.5, 6.1),
  "130M": (134.1, 96.5, 20.4),
  "350M": (368.0, 194.3, 72.6),
  "1B": (1339.1, 645.5, 289.9),
  "7B": (6738.4, 3144.7, 2590.4),
}
_FIGURE = "figure 3: 4.5, 3.5, 3.1 and 2.2 GB at 350M"
_PARTS = ("arguments", "temporaries", "peak")


def _millions(size: str) -> str:
  return f"{size}: parameters, millions"


def _positions(size: str) -> str:
  return f"{size}: int64 positions, MB"


def _counted(size: str) -> str:
  return f"{size}: counted, GB"


def _compiled(scale: str, what: str) -> str:
  return f"{COMPILED[scale]}: {what}, GB"


def table(scale: str) -> papers.Table:
  """Bytes by method: counted, and compiled."""
  columns = [_counted(size) for size in COUNTED[scale]]
  peak = _compiled(scale, "peak")
  cells = [
    *(
      papers.Cell(method, column, part=papers.MEASURE)
      for method in METHODS
      for column in columns
    ),
    *(
      papers.Cell(
        method,
        _compiled(scale, what),
        part=papers.MEASURE,
        paper=(
          (PRINTED[method], "350M")
          if (scale, what) == ("paper", "peak")
          else None
        ),
      )
      for method in METHODS
      for what in _PARTS
    ),
  ]
  expected = [
    papers.below((lean, column), (other, column), source=_FIGURE)
    for column in (*columns, peak)
    for other, lean in itertools.pairwise(METHODS)
  ]
  expected.append(
    papers.ratio_below(
      (SLTRAIN, peak),
      (ADAM, peak),
      0.6,
      source="figure 3: 2.2 / 4.5 at 350M, 6.8 / 16.3 at 1B; the bound is ours",
    )
  )
  if scale == "proxy":
    cells += _counts()
    expected += _expected_counts()
  return papers.Table(
    title="Memory of a training step, by method",
    paper="sltrain",
    target=TARGET if scale == "paper" else None,
    cells=cells,
    expected=expected,
    hardware="a CPU"
    if scale == "proxy"
    else "a CPU, and the compilers of an H200",
    differs=(
      "Compiled, not run. One sequence; the figure's batch is not known. All"
      " gradients are there at once, in float32, since all layers are updated"
      " after the backward pass: an update per layer, which the figure's last"
      " three have, is not ours (`train.block_gradients` moves some layers per"
      " step, another algorithm)."
      + (
        " 60M without its 32,000 tokens."
        if scale == "proxy"
        else " Embeddings of 32,000 tokens, as there."
      )
    ),
    notes=(
      "8-bit GaLore's step renews its bases; its peak has the singular vectors"
      " of all matrices of one shape at once, where the official code takes one"
      " matrix after the other.",
      "The figure's 7B of Adam is 10.0 bytes per parameter, of 1B 12.2, of 350M"
      " 12.2; bfloat16 parameters, gradients and moments are 8.",
    ),
    parts=(papers.MEASURE,),
    direction="",
  )


def _counts() -> list[papers.Cell]:
  return [
    papers.Cell(row, column, part=papers.MEASURE)
    for size in PARAMETERS
    for row, column in (
      (ADAM, _millions(size)),
      (SLTRAIN, _millions(size)),
      (SLTRAIN, _positions(size)),
    )
  ]


def _expected_counts() -> list[papers.Expected]:
  """To the last digit: half of it on either side."""
  source = "shapes and int(density * out * in) of the official code"
  found = []
  for size, numbers in PARAMETERS.items():
    refs = (
      (ADAM, _millions(size)),
      (SLTRAIN, _millions(size)),
      (SLTRAIN, _positions(size)),
    )
    found += [
      papers.between(ref, value - 0.0501, value + 0.0501, source=source)
      for ref, value in zip(refs, numbers, strict=True)
    ]
  return found


def measure(
  scale: str, piece: Callable[..., Any]
) -> Mapping[tuple[str, str], Sequence[float]]:
  """Counts, and what the compiler says of each method's step."""
  from normjax.reproduce import step_memory

  found = {}
  for size in COUNTED[scale]:
    for method in METHODS:
      held = step_memory.counted(step_memory.config(method, size))
      total = held.total_bytes(step_memory.OFFICIAL_POSITION_BYTES)
      found[method, _counted(size)] = [total / 1e9]
      if scale == "proxy" and method in (ADAM, SLTRAIN):
        found[method, _millions(size)] = [held.num_parameters / 1e6]
      if scale == "proxy" and method == SLTRAIN:
        positions = step_memory.OFFICIAL_POSITION_BYTES * held.num_positions
        found[method, _positions(size)] = [positions / 1e6]
  for method in METHODS:
    sizes = piece(method, _of_step, scale, method)
    for what in _PARTS:
      found[method, _compiled(scale, what)] = [sizes[what] / 1e9]
  return found


def _of_step(scale: str, method: str) -> Mapping[str, int]:
  """Bytes of a method's step, by what they are."""
  from normjax.reproduce import step_memory

  if scale == "paper":
    config, target = step_memory.config(method, "350M"), "h200"
  else:
    config, target = step_memory.config(method, "60M", vocab_size=256), None
  return step_memory.compiled(config, target)._asdict()
