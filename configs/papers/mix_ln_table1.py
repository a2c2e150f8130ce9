"""Does Post-LN in the first quarter of the blocks help a LLaMA on C4?

Claim: Mix-LN ends below Pre-LN, Post-LN and DeepNorm from 71M to 1B; Post-LN
fails with 24 blocks, DeepNorm at 1B (arXiv:2412.13795, Table 1).
Command: normjax reproduce mix_ln_table1 --scale=paper
Time: not measured. 10,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 71M is `configs/papers/mix_ln_table1.py:paper`, the
next `…:paper,130M`. Rates are the paper's: nothing is tuned. Embeddings start
with the official code's deviation of sqrt(2 / 5), on which the order of Post-LN
and Pre-LN depends strongly.
"""

import math

import ml_collections

from normjax import configure, papers
from normjax import sweep as space
from normjax.papers import deep_llama, llama_c4

SCALES = ("paper",)
SIZES = deep_llama.MIX_LN
POST, DEEP, MIX, PRE = (
  deep_llama.POST,
  deep_llama.DEEP,
  deep_llama.MIX,
  deep_llama.PRE,
)
METHODS = {row: deep_llama.PLACEMENTS[row] for row in (POST, DEEP, PRE, MIX)}
PARAMETERS = deep_llama.parameters(SIZES, METHODS)


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  config = deep_llama.config(deep_llama.size_of(arg, SIZES))
  return configure.override(config, {"model.embedding_std": math.sqrt(2 / 5)})


def sweep(arg: str = "paper") -> space.Sweep:
  """The rows of a size, at the paper's rate."""
  deep_llama.size_of(arg, SIZES)
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    baseline=PRE,
    **llama_c4.READ,
  )


def table(scale: str) -> papers.Table:
  """Perplexity by placement and size."""
  del scale
  source = "Table 1, second-hand"
  return papers.Table(
    title="Perplexity of LLaMA on C4: Mix-LN",
    paper="mix_ln",
    target="Table 1",
    cells=deep_llama.cells(METHODS, SIZES),
    expected=[
      *(
        papers.below((MIX, size), (other, size), source=source)
        for other in (PRE, DEEP, POST)
        for size in SIZES
      ),
      *(
        papers.at_least((POST, size), 1000.0, source=source)
        for size in ("250M", "1B")
      ),
      papers.at_least((DEEP, "1B"), 1000.0, source=source),
    ],
    hardware=llama_c4.HARDWARE,
    differs=deep_llama.DIFFERS,
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.divided_note(("Pre-LN of 130M", 26.78, 256)),
      deep_llama.DEEP_NORM_NOTE,
      "Tables disagree: Pre-LN of 250M is 21.92 here and 23.39 in the paper's"
      " Table 6, of 130M 26.78 here and 32.18 in its Table 8; Mix-LN of 1B is"
      " 18.18 here, and failed, at 1414.78, in arXiv:2502.05795.",
    ),
    parts=deep_llama.parts(SIZES),
  )
