"""Do APOLLO and APOLLO-Mini train LLaMA on C4 as well as Adam?

Claim: a scale per channel, or one per matrix, from a random low-rank space does
what Adam's full states do (arXiv:2412.05270).
Command: normjax reproduce apollo_c4 --scale=paper
Time: not measured. 10,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/apollo_c4.py:paper`, the next
`…:paper,130M`. Rates are the scripts': nothing is tuned.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
PARAMETERS = llama_c4.parameters()
TARGET = "small sizes"
APOLLO, MINI, ADAM = "APOLLO", "APOLLO-Mini", "Adam"
METHODS = {
  APOLLO: llama_c4.apollo,
  MINI: llama_c4.apollo_mini,
  ADAM: llama_c4.adam,
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
  rows = {APOLLO: "APOLLO (SCALE)", MINI: "APOLLO-Mini (SCALE)", ADAM: ""}
  return papers.Table(
    title="Perplexity of LLaMA on C4: APOLLO",
    paper="apollo",
    target=TARGET,
    cells=llama_c4.cells(rows),
    expected=[
      papers.below((own, size), (ADAM, size), source=source)
      for own, source in (
        (APOLLO, "README: superior to AdamW"),
        (MINI, "README: outperforms AdamW"),
      )
      for size in llama_c4.SIZES
    ],
    hardware=llama_c4.HARDWARE,
    differs=llama_c4.DIFFERS,
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.BASELINES,
      llama_c4.divided_note(("APOLLO of 60M", 30.94, 512)),
      "Numbers are SCALE's runs of APOLLO (60M: 11,000 steps), whose own Adam"
      " is below both at 60M, 30.05, at another rate. RACS prints 31.93, 23.84,"
      " 17.18 and 14.17 for APOLLO-Mini, and 33.94 for its Adam of 60M.",
      "Not run: 7B, whose rates are not known.",
    ),
    parts=llama_c4.PARTS,
  )
