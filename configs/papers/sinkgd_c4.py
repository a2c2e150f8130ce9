"""Does SinkGD train LLaMA on C4 with 0.4 of Adam's tokens?

Claim: gradients normalised along rows and columns in turn, without any state on
matrices, beat Adam; Adam's perplexity is reached with 0.4 of the tokens
(arXiv:2502.06742, abstract of the NeurIPS version).
Command: normjax reproduce sinkgd_c4 --scale=paper
Time: not measured. 4,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/sinkgd_c4.py:paper`, the next
`…:paper,130M`. SinkGD's rates are those of two public readings.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
PARAMETERS = llama_c4.parameters()
ADAM, SINKGD, SHORT = "Adam", "SinkGD", "SinkGD, 0.4 of the steps"
METHODS = {
  ADAM: llama_c4.adam,
  SINKGD: llama_c4.sinkgd,
  SHORT: lambda size: llama_c4.sinkgd(size) | llama_c4.shorter(size, 0.4),
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
  return papers.Table(
    title="Perplexity of LLaMA on C4: SinkGD",
    paper="sinkgd",
    target=None,
    cells=llama_c4.cells(dict.fromkeys(METHODS, "")),
    expected=[
      papers.below((own, size), (ADAM, size), source="abstract")
      for own in (SINKGD, SHORT)
      for size in llama_c4.SIZES
    ],
    hardware=llama_c4.HARDWARE,
    differs=f"SinkGD's rates are second-hand. {llama_c4.DIFFERS}",
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.BASELINES,
      "The paper's perplexities could not be read. A third party's runs in"
      " small batches have SinkGD behind AdamW.",
    ),
    parts=llama_c4.PARTS,
  )
