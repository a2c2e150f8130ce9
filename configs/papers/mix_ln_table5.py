"""How many of a LLaMA's first blocks should be Post-LN?

Claim: at 1B a quarter is best; from a half on it is worse than none, and all of
them fail (arXiv:2412.13795, Table 5).
Command: normjax reproduce mix_ln_table5 --scale=paper
Time: not measured. 100,000 steps of 131,072 tokens per row.

Shares of 24 blocks as the paper prints them; the rate is the paper's: nothing
is tuned. Embeddings start with the official code's deviation of sqrt(2 / 5).
"""

import math

import ml_collections

from normjax import configure, papers
from normjax import sweep as space
from normjax.papers import deep_llama, llama_c4

SCALES = ("paper",)
SIZES = {"1B": deep_llama.MIX_LN["1B"]}
NONE, QUARTER, HALF, ALL = "0 %", "25 %", "50 %", "100 %"
# The share as printed, and the whole percentage that gives its blocks of 24.
PERCENT = {
  "16.7 %": 17,
  QUARTER: 25,
  "33 %": 34,
  "41.7 %": 42,
  HALF: 50,
}
METHODS = {
  NONE: deep_llama.PLACEMENTS[deep_llama.PRE],
  **{
    share: {"model.placement": f"mix(post_percent={percent})"}
    for share, percent in PERCENT.items()
  },
  ALL: deep_llama.PLACEMENTS[deep_llama.POST],
}
PARAMETERS = deep_llama.parameters(SIZES, METHODS)


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows share."""
  config = deep_llama.config(deep_llama.size_of(arg, SIZES))
  return configure.override(config, {"model.embedding_std": math.sqrt(2 / 5)})


def sweep(arg: str = "paper") -> space.Sweep:
  """Seven shares, at the paper's rate."""
  deep_llama.size_of(arg, SIZES)
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    baseline=NONE,
    **llama_c4.READ,
  )


def table(scale: str) -> papers.Table:
  """One perplexity per share."""
  del scale
  source = "Table 5, second-hand"
  return papers.Table(
    title="Perplexity of LLaMA 1B on C4 by the share of Post-LN",
    paper="mix_ln",
    target="Table 5 (share of Post-LN, 1B)",
    cells=[papers.Cell(share, paper=("Mix-LN", share)) for share in METHODS],
    expected=[
      *(
        papers.below(QUARTER, share, source=source)
        for share in METHODS
        if share != QUARTER
      ),
      papers.above(HALF, NONE, source=source),
      papers.at_least(ALL, 1000.0, source=source),
    ],
    hardware=llama_c4.HARDWARE,
    differs=deep_llama.DIFFERS,
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.divided_note(("Mix-LN of 25 %", 18.18, 128)),
    ),
  )
