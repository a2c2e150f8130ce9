"""Does RACS train LLaMA on C4 better than Adam, GaLore, Fira and APOLLO?

Claim: row and column scaled SGD beats them at all sizes, with almost no state
(arXiv:2502.07752, table 2, last layer by Adam).
Command: normjax reproduce racs_table2 --scale=paper
Time: not measured. 10,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/racs_table2.py:paper`, the
next `…:paper,130M`. Rates are the paper's: nothing is tuned.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
PARAMETERS = llama_c4.parameters()
TARGET = "Table 2"
ADAM, GALORE, FIRA = "Adam", "GaLore", "Fira"
MINI, RACS = "APOLLO-Mini", "RACS"
METHODS = {
  ADAM: llama_c4.adam,
  GALORE: llama_c4.galore,
  FIRA: llama_c4.fira,
  MINI: llama_c4.apollo_mini,
  RACS: llama_c4.racs,
}
PAPER = {
  ADAM: "Adam (theirs)",
  GALORE: "GaLore",
  FIRA: "Fira",
  MINI: "Apollo-mini",
  RACS: "RACS",
}
COLUMNS = {
  size: f"{'1.3B' if size == '1B' else size} head by Adam"
  for size in llama_c4.SIZES
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  return llama_c4.config(llama_c4.size_of(arg))


def sweep(arg: str = "paper") -> space.Sweep:
  """The rows of a size, at the paper's rates."""
  rows = llama_c4.rows(arg, METHODS)
  return space.Sweep(**rows)


def table(scale: str) -> papers.Table:
  """Perplexity by optimizer and size."""
  del scale
  return papers.Table(
    title="Perplexity of LLaMA on C4: RACS",
    paper="racs_alice",
    target=TARGET,
    cells=llama_c4.cells(PAPER, sizes=COLUMNS),
    expected=[
      papers.below((RACS, size), (other, size), source="Table 2")
      for other in (ADAM, GALORE, FIRA, MINI)
      for size in llama_c4.SIZES
    ],
    hardware=llama_c4.HARDWARE,
    differs=llama_c4.DIFFERS,
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.BASELINES,
      llama_c4.divided_note(("Adam (theirs) of 60M", 33.94, None)),
      "Not run: Alice and Alice-0, Apollo-svd (APOLLO here draws its subspace)"
      " and the rows whose last layer is a matrix like the others.",
    ),
    parts=llama_c4.PARTS,
  )
