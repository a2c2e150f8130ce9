"""Does Fira's scaled residual beat GaLore and full-rank Adam on C4?

Claim: the residual of the low-rank projection, scaled and limited in growth,
beats both (arXiv:2410.01623).
Command: normjax reproduce fira_c4 --scale=paper
Time: not measured. 10,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/fira_c4.py:paper`, the next
`…:paper,130M`. Rates are the script's: nothing is tuned.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
PARAMETERS = llama_c4.parameters()
TARGET = "cited rows"
FIRA, ADAM, GALORE = "Fira", "Adam", "GaLore"
METHODS = {
  FIRA: llama_c4.fira,
  ADAM: llama_c4.adam,
  GALORE: llama_c4.galore,
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  return llama_c4.config(llama_c4.size_of(arg))


def sweep(arg: str = "paper") -> space.Sweep:
  """The rows of a size."""
  rows = llama_c4.rows(arg, METHODS)
  return space.Sweep(**rows, baseline=ADAM)


def table(scale: str) -> papers.Table:
  """Perplexity by optimizer and size."""
  del scale
  columns = {size: "1.3B" if size == "1B" else size for size in llama_c4.SIZES}
  rows = {FIRA: "Fira, head by Adam", ADAM: "", GALORE: ""}
  return papers.Table(
    title="Perplexity of LLaMA on C4: Fira",
    paper="fira",
    target=TARGET,
    cells=llama_c4.cells(rows, sizes=columns),
    expected=[
      papers.below((FIRA, size), (other, size), source=source)
      for other, source in (
        (ADAM, "abstract, comparable or better; cited rows: 31.06 and 34.06"),
        (GALORE, "abstract"),
      )
      for size in llama_c4.SIZES
    ],
    hardware=llama_c4.HARDWARE,
    differs=llama_c4.DIFFERS,
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.BASELINES,
      llama_c4.divided_note(("Fira of 60M", 31.06, 256)),
      "Numbers are those that another paper cites; SCALE's own runs of Fira"
      " gave 30.34, 22.96, 16.82 and 15.10.",
    ),
    parts=llama_c4.PARTS,
  )
