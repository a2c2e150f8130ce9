"""What tables of norms in deep LLaMAs on C4 share: the scripts of Mix-LN.

GaLore's protocol (`llama_c4`), with sizes, steps and rates of
pixeli99/MixLN (arXiv:2412.13795) and lmsdss/LayerNorm-Scaling
(arXiv:2502.05795): Adam, nothing decays, no clipping.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from normjax import configure, errors
from normjax.papers import llama_c4
from normjax.papers.table import SWEEP, Cell, argument


class Size(NamedTuple):
  """A model, and how long it is trained.

  Attributes:
    model: its size, as a config names it.
    num_steps: of 512 x 256 tokens.
    warmup_steps: of these.
    learning_rate: Adam's.
    micro_batches: of a step, so that one GPU of 80 GB holds it.
    num_parameters: with 32,000 words, an untied head and a norm before it.
  """

  model: str
  num_steps: int
  warmup_steps: int
  learning_rate: float
  micro_batches: int
  num_parameters: int


Sizes = Mapping[str, Size]
_71M = Size("71m", 10_000, 1000, 1e-3, 4, 70_578_688)
_130M = Size("130m", 20_000, 2000, 1e-3, 4, 134_105_856)
_250M = Size("250m", 40_000, 4000, 1e-3, 8, 247_370_496)
_350M = Size("350m", 60_000, 6000, 5e-4, 8, 367_969_280)
_1B = Size("1b", 100_000, 1000, 5e-4, 16, 1_339_082_752)
# Of arXiv:2502.05795, then of arXiv:2412.13795.
LNS: Sizes = {"130M": _130M, "250M": _250M, "350M": _350M, "1B": _1B}
MIX_LN: Sizes = {"71M": _71M, "130M": _130M, "250M": _250M, "1B": _1B}
SCALE = "paper"

POST, DEEP, MIX = "Post-LN", "DeepNorm", "Mix-LN"
PRE, SCALED = "Pre-LN", "Pre-LN + LNS"
# In Hugging Face's LLaMA a norm is before the head whatever the blocks are.
_FINAL_NORM = {"model.slot_norms.final": "rms_norm"}
PLACEMENTS = {
  POST: {"model.placement": "post"} | _FINAL_NORM,
  DEEP: {"model.placement": "deep_norm", "model.init": "placement"}
  | _FINAL_NORM,
  MIX: {"model.placement": "mix"},
  PRE: {"model.placement": "pre"},
  SCALED: {"model.placement": "layer_norm_scaling"},
}
DEEP_NORM_NOTE = (
  "DeepNorm here is its own paper's, (2 L)^(1/4) and values times"
  " (8 L)^(-1/4); the official code has (2 * 32)^(1/4) for every depth and"
  " (8 L)^(+1/4)."
)
DIFFERS = (
  f"{llama_c4.DIFFERS} The 1B model has {_1B.warmup_steps:,} steps to warm up,"
  " as its script, not a tenth."
)


def parts(sizes: Sizes) -> tuple[str, ...]:
  """A sweep per size; that of the first is the file's own."""
  return (SWEEP, *list(sizes)[1:])


def _by_argument(sizes: Sizes) -> dict[str, Size]:
  """Argument of a config file -> size."""
  return {
    argument(SCALE, part): size
    for part, size in zip(parts(sizes), sizes.values(), strict=True)
  }


def parameters(
  sizes: Sizes, rows: Iterable[str] = (PRE,)
) -> dict[str, dict[str, int]]:
  """Argument of a config file -> label of a row -> parameters of its model.

  Args:
    sizes: of the table.
    rows: whose models have as many as Pre-LN's.
  """
  rows = tuple(rows)
  return {
    arg: dict.fromkeys(rows, size.num_parameters)
    for arg, size in _by_argument(sizes).items()
  }


def size_of(arg: str, sizes: Sizes, more: Iterable[str] = ()) -> Size:
  """The size that an argument of a config file asks for.

  Args:
    arg: "paper", or "paper,<size>" for those after the first.
    sizes: of the table.
    more: what the file's functions take beside these.

  Raises:
    UserError: another argument.
  """
  known = _by_argument(sizes)
  if arg not in known:
    allowed = "; ".join((*more, *known))
    raise errors.UserError(f"unknown argument {arg!r}; allowed: {allowed}.")
  return known[arg]


def config(size: Size) -> ConfigDict:
  """The run that all rows of a size share."""
  return configure.override(
    llama_c4.config("130M"),
    {
      "model.size": size.model,
      "optimizer.learning_rate": size.learning_rate,
      "optimizer.weight_decay": 0.0,
      "schedule.warmup_fraction": size.warmup_steps / size.num_steps,
      "train.num_steps": size.num_steps,
      "train.accumulation_steps": size.micro_batches,
    },
  )


def cells(rows: Iterable[str], sizes: Sizes) -> list[Cell]:
  """A row's cells, a size per column.

  Args:
    rows: labels of methods, which the paper calls so, too.
    sizes: of the table.
  """
  return [
    Cell(row, size, part=part, paper=(row, size))
    for row in rows
    for size, part in zip(sizes, parts(sizes), strict=True)
  ]
