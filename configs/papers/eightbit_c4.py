"""Does Adam with 8-bit states train LLaMA on C4 as with 32 bits?

Claim: block-wise 8-bit states keep the quality of 32-bit ones, with the same
hyper-parameters (arXiv:2110.02861).
Command: normjax reproduce eightbit_c4 --scale=paper
Time: not measured. 10,000 to 60,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/eightbit_c4.py:paper`, the
next `…:paper,130M`. Rates are those of 32-bit Adam: nothing is tuned.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
COLUMNS = ("60M", "130M", "350M")
PARAMETERS = {
  arg: count
  for arg, count in llama_c4.parameters().items()
  if not arg.endswith("1B")
}
ADAM, EIGHT = "Adam", "8-bit Adam"
METHODS = {ADAM: llama_c4.adam, EIGHT: llama_c4.adam_8bit}
# What TorchAO's 4-bit states cost a LLaMA of 130M, in nats: the least of them.
FOUR_BITS = 0.0205


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  return llama_c4.config(llama_c4.size_of(arg))


def sweep(arg: str = "paper") -> space.Sweep:
  """The rows of a size."""
  rows = llama_c4.rows(arg, METHODS) | llama_c4.READ_LOSS
  return space.Sweep(**rows)


def table(scale: str) -> papers.Table:
  """Loss by optimizer and size."""
  del scale
  rows = dict.fromkeys(METHODS, "")
  return papers.Table(
    title="Loss of LLaMA on C4: 8-bit Adam",
    paper="eightbit",
    target=None,
    cells=llama_c4.cells(rows, sizes=dict.fromkeys(COLUMNS, "")),
    expected=[
      papers.within(
        (EIGHT, size),
        (ADAM, size),
        of=FOUR_BITS,
        claim=(
          f"8-bit Adam of {size} is nearer to Adam than TorchAO's 4-bit states"
          " were"
        ),
        source="abstract; the bound is of another paper: what TorchAO's 4-bit"
        " states cost a LLaMA of 130M, three paired seeds",
      )
      for size in COLUMNS
    ],
    hardware=llama_c4.HARDWARE,
    differs=(
      "The paper has no LLaMA: its rows are GPT-2, RoBERTa and translation."
      " Blocks of 256 in place of 2048, cut from rows; embeddings keep 32 bits."
    ),
    notes=(
      "The paper's own tables could not be read; those of 7B in GaLore's"
      " lineage have no rate for 8-bit Adam.",
    ),
    parts=tuple(map(llama_c4.part_of, COLUMNS)),
    units="nats",
  )
