"""Does SWAN, without any state on matrices, train LLaMA on C4 as Adam does?

Claim: it is similar to Adam or better, and reaches Adam's perplexity with half
the tokens at 350M and 1.3B (arXiv:2412.13148, abstract).
Command: normjax reproduce swan_c4 --scale=paper
Time: not measured. 10,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/swan_c4.py:paper`, the next
`…:paper,130M`. SWAN's own rates were not found: those of SinkGD, by the same
authors, stand in.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
PARAMETERS = llama_c4.parameters()
TARGET = "SWAN row quoted by SCALE"
ADAM, SWAN, HALF = "Adam", "SWAN", "SWAN, half the steps"
METHODS = {
  ADAM: llama_c4.adam,
  SWAN: llama_c4.swan,
  HALF: lambda size: llama_c4.swan(size) | llama_c4.shorter(size, 0.5),
}

_ABSTRACT = "abstract: Adam's perplexity with half of the tokens"
# The abstract says of all sizes only that it is similar to Adam, or better.
_SOURCES = {
  "60M": "SCALE's copy, 30.00; 34.06 of Adam in GaLore's lineage",
  "130M": "SCALE's copy, 22.83; 25.08 of Adam in GaLore's lineage",
  "350M": _ABSTRACT,
  "1B": _ABSTRACT,
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  return llama_c4.config(llama_c4.size_of(arg))


def sweep(arg: str = "paper") -> space.Sweep:
  """The rows of a size."""
  rows = llama_c4.rows(arg, METHODS)
  return space.Sweep(**rows)


def table(scale: str) -> papers.Table:
  """Perplexity by optimizer and size."""
  del scale
  rows = {ADAM: "", SWAN: "SWAN", HALF: ""}
  return papers.Table(
    title="Perplexity of LLaMA on C4: SWAN",
    paper="swan",
    target=TARGET,
    cells=llama_c4.cells(rows),
    expected=[
      *(
        papers.below((SWAN, size), (ADAM, size), source=source)
        for size, source in _SOURCES.items()
      ),
      *(
        papers.below((HALF, size), (ADAM, size), source=source)
        for size, source in _SOURCES.items()
        if source == _ABSTRACT
      ),
    ],
    hardware=llama_c4.HARDWARE,
    differs=f"SWAN's rates are SinkGD's. {llama_c4.DIFFERS}",
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.BASELINES,
      llama_c4.divided_note(("SWAN of 60M", 30.0, None)),
      "SWAN's own table could not be read: the numbers are SCALE's copy, which"
      " says nothing of the last layer nor of the tuning. Adam has 30.05,"
      " 23.13, 18.77 and 16.52 there, at a rate that is not said and with"
      " 11,000 steps at 60M: another Adam than this one, beside which they are"
      " not put.",
    ),
    parts=llama_c4.PARTS,
  )
