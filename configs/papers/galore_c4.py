"""Does GaLore train LLaMA on C4 as well as full-rank Adam?

Claim: Adam in a low-rank subspace of the gradient, renewed every 200 steps,
comes near full-rank Adam at every size (arXiv:2403.03507).
Command: normjax reproduce galore_c4 --scale=paper
Time: not measured. 10,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/galore_c4.py:paper`, the next
`…:paper,130M`. Rates are the script's: nothing is tuned.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
PARAMETERS = llama_c4.parameters()
TARGET = "C4 table as cited"
ADAM, TUNED, GALORE = "Adam", "Adam at 3e-3", "GaLore"
METHODS = {
  ADAM: llama_c4.adam,
  # SLTrain's script has this rate where its table prints GaLore's Adam.
  TUNED: lambda size: llama_c4.adam_at(3e-3),
  GALORE: llama_c4.galore,
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
  rows = {ADAM: "Full-rank Adam", TUNED: "", GALORE: "GaLore"}
  return papers.Table(
    title="Perplexity of LLaMA on C4: GaLore",
    paper="galore",
    target=TARGET,
    cells=llama_c4.cells(rows),
    expected=[
      # Twice the largest of the table's gaps, 2.4% at 60M.
      *(
        papers.ratio_below(
          (GALORE, size), (ADAM, size), 1.05, source="34.88 / 34.06 at 60M"
        )
        for size in llama_c4.SIZES
      ),
      papers.below(
        (TUNED, "60M"),
        (ADAM, "60M"),
        by=2.0,
        claim="Adam at 1e-3 is under-tuned at 60M, by more than 2",
        source="SLTrain issue 7: 30.08 at 3e-3 and 11,000 steps, 34.06 printed",
      ),
    ],
    hardware=llama_c4.HARDWARE,
    differs=llama_c4.DIFFERS,
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.BASELINES,
      llama_c4.divided_note(("Full-rank Adam of 60M", 34.06, 256)),
      "GaLore's rate was chosen per size from five; the chosen ones are not"
      " released, and the scripts say 0.01 for all. Of 1B the paper's rank is"
      " 512, the script's in the repository 1024.",
      "Not run: 7B, whose baseline's rate is not known.",
    ),
    parts=llama_c4.PARTS,
  )
