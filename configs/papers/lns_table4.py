"""Does LayerNorm Scaling beat other ways to scale depth in LLaMA on C4?

Claim: it ends below LayerScale, SkipInit and two scaled starts at 130M and
250M; a scaled start beside it takes part of its gain (arXiv:2502.05795,
Table 4).
Command: normjax reproduce lns_table4 --scale=paper
Time: not measured. 20,000 and 40,000 steps of 131,072 tokens per row.

One sweep per size; that of 130M is `configs/papers/lns_table4.py:paper`, the
other `…:paper,250M`. The rates are the scripts': nothing is tuned. "Scaled
init" is the code's, 0.02 / sqrt(2 L) of what writes to the stream;
"depth-scaled init" is read as DS-Init (arXiv:1908.11365).
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import deep_llama, llama_c4

SCALES = ("paper",)
SIZES = {size: deep_llama.LNS[size] for size in ("130M", "250M")}
PARAMETERS = deep_llama.parameters(SIZES)
PRE, LNS, BOTH = "Pre-LN", "LNS", "LNS + scaled init"
_SCALED_START = {"model.init": "depth_scaled"}
_LNS = {"model.placement": "layer_norm_scaling"}
METHODS = {
  PRE: {"model.placement": "pre"},
  "LayerScale": {"model.residual": "layer_scale"},
  "SkipInit": {"model.residual": "skip_init"},
  "depth-scaled init": {"model.init": "ds_init"},
  "scaled init": _SCALED_START,
  LNS: _LNS,
  BOTH: _LNS | _SCALED_START,
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  return deep_llama.config(deep_llama.size_of(arg, SIZES))


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
  """Perplexity by method and size."""
  del scale
  return papers.Table(
    title="Perplexity of LLaMA on C4: LayerNorm Scaling and other scalings",
    paper="lns",
    target="Table 4",
    cells=deep_llama.cells(METHODS, SIZES),
    expected=[
      papers.below((LNS, size), (other, size), source="Table 4")
      for other in METHODS
      if other != LNS
      for size in SIZES
    ],
    hardware=llama_c4.HARDWARE,
    differs=(
      "LayerScale starts at 1e-4, and depth-scaled init is DS-Init: the paper's"
      f" scripts have neither. {deep_llama.DIFFERS}"
    ),
    notes=(
      llama_c4.ONE_RUN,
      llama_c4.divided_note(
        ("Pre-LN of 130M", 26.73, 64), ("Pre-LN of 250M", 21.92, 512)
      ),
    ),
    parts=deep_llama.parts(SIZES),
  )
