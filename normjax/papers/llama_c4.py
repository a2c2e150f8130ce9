"""What the tables of LLaMA on C4 share: GaLore's protocol (arXiv:2403.03507).

Models of 60M to 1B, 512 documents of 256 tokens per step, a tenth of the steps
to warm up, a cosine to a tenth of the rate, no clipping, bfloat16. Each file of
`configs/papers` that has such a table says its rows; what a row's optimizer is
told stands here once, with the protocol entry of `experiments` that says it.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from normjax import configure, errors
from normjax.papers.table import SWEEP, Cell


class Size(NamedTuple):
  """A model, and how long it is trained.

  Attributes:
    model: its size, as a config names it.
    num_steps: of 512 x 256 tokens.
    width: of the model.
    rank: of GaLore and Fira.
    micro_batches: of a step, so that one GPU of 80 GB holds its logits.
    num_parameters: as the papers count them: 32,000 words, an untied head.
  """

  model: str
  num_steps: int
  width: int
  rank: int
  micro_batches: int
  num_parameters: int


SIZES = {
  "60M": Size("60m", 10_000, 512, 128, 4, 58_073_600),
  "130M": Size("130m", 20_000, 768, 256, 4, 134_105_856),
  "350M": Size("350m", 60_000, 1024, 256, 8, 367_969_280),
  "1B": Size("1b", 100_000, 2048, 512, 16, 1_339_082_752),
}
SMALLEST, *LARGER = SIZES
# A sweep per size; that of the smallest is the file's own.
PARTS = (SWEEP, *LARGER)
# Where T5's tokenizer is looked for, from the current folder.
TOKENIZER = "tokenizers/t5-base/tokenizer.json"
METRIC, LOSS = "eval/perplexity", "eval/loss"
# 10M positions, as the scripts stop at 10M tokens.
_EVALUATED = 10_000_000
_EVALUATION_BATCH = 128
_LENGTH = 256
_FILLED = 0.8  # Of a window, by a document, on the average.


def size_of(arg: str, others: Collection[str] = ()) -> str:
  """The size that an argument of a config file asks for.

  Args:
    arg: "paper" or "paper,<size>"; without a size, the smallest.
    others: scales of the file that have the smallest alone.

  Raises:
    UserError: another scale or size.
  """
  scale, _, size = arg.partition(",")
  if arg in others or arg == "paper":
    return SMALLEST
  if scale != "paper" or size not in SIZES:
    said = "".join(f"{other!r}, " for other in others)
    raise errors.UserError(
      f"unknown argument {arg!r}; allowed: {said}'paper', 'paper,' with one of"
      f" {', '.join(SIZES)}."
    )
  return size


def part_of(size: str) -> str:
  """The part of a table that a size is trained in."""
  return SWEEP if size == SMALLEST else size


def parameters(scale: str = "paper") -> dict[str, int]:
  """Argument of a config file -> parameters of its models."""
  return {
    scale if size == SMALLEST else f"{scale},{size}": of.num_parameters
    for size, of in SIZES.items()
  }


def config(size: str) -> ConfigDict:
  """The run that all rows of a size share; its optimizer is Adam."""
  of = SIZES[size]
  made = configure.load("configs/default.py")
  made.model = configure.component("model", "llama", size=of.model)
  made.optimizer = configure.component("optimizer", "adamw")
  made.data = configure.component("data", "c4")
  return configure.override(
    made,
    {
      **adam(size),
      # Hugging Face's LLaMA: a normal distribution of 0.02 everywhere.
      "model.init": "plain",
      "model.scan_layers": True,
      "data.tokenizer": TOKENIZER,
      "data.vocab_size": 32_000,
      "data.sequence_length": _LENGTH,
      "data.window": "document",
      "data.train_split": "train",
      "data.tuning_split": "",
      "schedule.name": "warmup_cosine",
      "schedule.warmup_fraction": 0.1,
      "schedule.final_fraction": 0.1,
      "train.num_steps": of.num_steps,
      "train.batch_size": 512,
      "train.accumulation_steps": of.micro_batches,
      "train.gradient_clip": 0.0,
      "train.precision": "bfloat16",
      "evaluate.every_steps": 1000,
      "evaluate.batch_size": _EVALUATION_BATCH,
      "evaluate.num_batches": math.ceil(
        _EVALUATED / (_EVALUATION_BATCH * _LENGTH)
      ),
      "evaluate.metrics": ("perplexity",),
      "checkpoint.every_steps": 1000,
      "log.every_steps": 50,
    },
  )


def _optimizer(name: str, **options: Any) -> dict[str, Any]:
  return {
    "optimizer.name": name,
    **{f"optimizer.{key}": value for key, value in options.items()},
  }


def adam(size: str) -> dict[str, Any]:
  """RACS' "Adam (theirs)": 1e-3, of 1B 7e-4, nothing decays."""
  rate = 7e-4 if size == "1B" else 1e-3
  return _optimizer("adamw", learning_rate=rate, weight_decay=0.0)


def adam_at(rate: float) -> dict[str, Any]:
  """Adam at another rate."""
  return _optimizer("adamw", learning_rate=rate, weight_decay=0.0)


def adam_8bit(size: str) -> dict[str, Any]:
  """The rates of Adam, as 8-bit Adam asks for no others."""
  rate = adam(size)["optimizer.learning_rate"]
  return _optimizer("adam_8bit", learning_rate=rate, weight_decay=0.0)


def galore(size: str) -> dict[str, Any]:
  """Protocol "60M-1B" of galore."""
  return _optimizer(
    "galore",
    learning_rate=0.01,
    rank=SIZES[size].rank,
    scale=0.25,
    update_proj_gap=200,
  )


def fira(size: str) -> dict[str, Any]:
  """Protocol "scripts" of fira: alpha 0.25, of 1B 0.0625."""
  return _optimizer(
    "fira",
    learning_rate=0.01,
    rank=SIZES[size].rank,
    scale=0.0625 if size == "1B" else 0.25,
    update_proj_gap=200,
  )


def apollo(size: str) -> dict[str, Any]:
  """Protocol "APOLLO" of apollo: a quarter of the width, 256 at most."""
  return _optimizer(
    "apollo",
    learning_rate=0.01,
    rank=min(SIZES[size].width // 4, 256),
    scale=1.0,
    update_proj_gap=200,
  )


def apollo_mini(size: str) -> dict[str, Any]:
  """Protocol "APOLLO-Mini" of apollo; its script of 130M has a scale of 192."""
  return _optimizer(
    "apollo_mini",
    learning_rate=0.01,
    scale=192.0 if size == "130M" else 128.0,
    scale_front=size in ("60M", "130M"),
  )


def racs(size: str) -> dict[str, Any]:
  """Protocol "RACS" of racs_alice: alpha 0.05, of 1B 0.02."""
  alpha = 0.02 if size == "1B" else 0.05
  return _optimizer("racs", learning_rate=0.02, beta=0.9, matrix_scale=alpha)


def conda(size: str) -> dict[str, Any]:
  """Protocol "Conda LLaMA" of conda."""
  del size
  return _optimizer(
    "conda", learning_rate=0.01, b1=0.9, b2=0.99, scale=0.25,
    update_proj_gap=2000,
  )  # fmt: skip


def swan(size: str) -> dict[str, Any]:
  """The rates of SinkGD, by the same authors: SWAN's own were not found."""
  del size
  return _optimizer("swan", learning_rate=0.02, matrix_scale=0.05)


def sinkgd(size: str) -> dict[str, Any]:
  """Protocol "all" of sinkgd, second-hand."""
  del size
  return _optimizer(
    "sinkgd", learning_rate=0.02, matrix_scale=0.05, num_iters=5
  )


def scale(size: str) -> dict[str, Any]:
  """Protocol "SCALE" of scale_minimalist: of 1B 2e-4, its vectors apart."""
  if size == "1B":
    return _optimizer("scale", learning_rate=2e-4, fallback_learning_rate=1e-3)
  return _optimizer("scale", learning_rate=1e-3)


def muon(size: str) -> dict[str, Any]:
  """Protocol "Muon, SOAP, Adafactor LLaMA" of conda: Moonlight's Muon."""
  del size
  return _optimizer(
    "muon",
    learning_rate=1e-3,
    scaling="moonlight",
    fallback_learning_rate=1e-3,
  )


def soap(size: str) -> dict[str, Any]:
  """The same protocol: 2e-3 up to 130M, then 1e-3."""
  rate = 2e-3 if size in ("60M", "130M") else 1e-3
  return _optimizer("soap", learning_rate=rate, weight_decay=0.0)


def shorter(size: str, fraction: float) -> dict[str, Any]:
  """Trained for a fraction of the steps, the schedule with them."""
  return {"train.num_steps": round(fraction * SIZES[size].num_steps)}


def rows(
  arg: str, methods: Mapping[str, Callable[[str], dict[str, Any]]]
) -> dict[str, Any]:
  """Arguments of the `Sweep` of a size: its rows, and how they are read.

  Args:
    arg: of the config file.
    methods: label to the row's overrides, which a size decides.
  """
  size = size_of(arg)
  return {
    "methods": [method(size) for method in methods.values()],
    "labels": list(methods),
    **READ,
  }


def cells(
  rows: Mapping[str, str],
  target: str | None = None,
  sizes: Mapping[str, str] | None = None,
  metric: str | None = None,
) -> list[Cell]:
  """A row's cells, a size per column.

  Args:
    rows: label of the method -> the paper's name for it; "" has no number.
    target: the id of the paper's table; None: that of the table.
    sizes: size -> the paper's name for the column; None: the same.
    metric: see `Cell`.
  """
  sizes = dict.fromkeys(SIZES, "") if sizes is None else sizes
  found = []
  for label, paper in rows.items():
    for size, column in sizes.items():
      place = (*((target,) if target else ()), paper, column or size)
      found.append(
        Cell(
          label,
          size,
          metric=metric,
          part=part_of(size),
          paper=place if paper else None,
        )
      )
  return found


def undivided(perplexity: float, num_batches: int) -> float:
  """The perplexity of a mean loss that was divided by one batch too many.

  p_true = p ** ((n + 1) / n)
  """
  return perplexity ** ((num_batches + 1) / num_batches)


def _num_batches(sequences: int) -> int:
  """Batches of an evaluation of GaLore's scripts.

  Args:
    sequences: of a forward pass on all GPUs.
  """
  return int(_EVALUATED / (sequences * _LENGTH * _FILLED))


def divided_note(*printed: tuple[str, float, int | None]) -> str:
  """What printed perplexities are where the script's mean is a mean.

  Args:
    *printed: name of row and column, the perplexity as printed, and the
      sequences of a forward pass of the script that it is from, on all GPUs;
      None: there is no official code, and two numbers are tried.
  """
  said = []
  for name, perplexity, sequences in printed:
    tried = {
      each: undivided(perplexity, _num_batches(each))
      for each in ((256, 512) if sequences is None else (sequences,))
    }
    told = " and ".join(
      f"{true:.2f} with {each} sequences per forward pass"
      f" (n = {_num_batches(each)})"
      for each, true in tried.items()
    )
    said.append(
      f"{name}, printed {perplexity:g}, is {told}, as its script has them."
      if sequences
      else f"{name}, printed {perplexity:g}, was evaluated by code that is not"
      f" public; were it GaLore's, it would be {told}."
    )
  return (
    "GaLore's evaluation, which seven other repositories took over, divides the"
    " summed loss of n batches by n + 1; n depends on GPUs and batch, and is in"
    f" no table. {' '.join(said)} Documents are taken to fill four fifths of"
    " the windows. Here the mean is a mean."
  )


BASELINES = (
  "Baselines of tables disagree: full-rank Adam of 60M is 34.06 in GaLore's"
  " lineage (at 1e-3, 10,000 steps), 33.94 by RACS' own run, 30.05 in SCALE"
  " (11,000 steps), and 30.08 by SLTrain's official script at 3e-3 and 11,000"
  " steps, whose paper prints 34.06. The first is under-tuned; rows of"
  " different tables are not to be mixed."
)
DIFFERS = (
  "Parameters and states are float32, the arithmetic bfloat16; the papers keep"
  " both in bfloat16. Documents come in another order, and a window has one"
  " target more."
)
# As few as can tell a large difference from none.
SEEDS = (1, 2, 3)
# Arguments of each `Sweep`: what is run, and what is read of it.
READ = {"seeds": SEEDS, "metric": METRIC, "other_metrics": (LOSS,)}
READ_LOSS = READ | {"metric": LOSS, "other_metrics": (METRIC,)}
ONE_RUN = (
  "The paper has one run per row. --seeds=1 trains as many, which decides"
  " nothing; the three of a whole table decide what is large."
)
HARDWARE = "one GPU of 80 GB up to 350M, eight for 1B; C4 and T5's tokenizer"
