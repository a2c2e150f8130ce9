"""Does DyT match RMSNorm in LLaMA of 7B and 13B?

Claim: it does, in training loss and in zero-shot scores (arXiv:2503.10622,
Table 4): 1.60 against 1.59 at 7B, 1.54 against 1.53 at 13B.
Command: normjax reproduce dyt_llama --scale=paper
Time: not measured. 50,000 steps of 4 million tokens per row.

One sweep per size; that of 7B is `configs/papers/dyt_llama.py:paper`, the other
`…:paper,13B`. alpha starts as in the paper, by width and site, and a learned
factor, sqrt(d) at first, multiplies the embeddings. Batch, rates and schedule
are LLaMA's (arXiv:2302.13971, table 2 and section 2.3).
"""

import ml_collections

from normjax import configure, errors, papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
RMS, DYT = "RMSNorm", "DyT"
PARAMETERS = {
  "paper": {RMS: 6_738_415_616},
  "paper,13B": {RMS: 13_015_864_320},
}
SIZES = {"7B": papers.SWEEP, "13B": "13B"}
_SHARED = {
  "paper": {
    "model.num_layers": 32,
    "model.num_heads": 32,
    "model.model_dim": 4096,
    "model.hidden_dim": 11_008,
  },
  "paper,13B": {
    "model.num_layers": 40,
    "model.num_heads": 40,
    "model.model_dim": 5120,
    "model.hidden_dim": 13_824,
  },
}
# Before attention, before the feed-forward, before the head.
ALPHAS = {"paper": (0.8, 0.2, 0.2), "paper,13B": (0.6, 0.15, 0.15)}


def _check(arg: str) -> None:
  """Raises UserError for an argument that names no sweep of the table."""
  if arg not in _SHARED:
    raise errors.UserError(
      f"unknown argument {arg!r}; allowed: {'; '.join(_SHARED)}."
    )


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that both rows of a size share."""
  _check(arg)
  return configure.override(
    llama_c4.config("130M"),
    {
      **_SHARED[arg],
      "model.scan_layers": True,
      "model.remat": True,
      "data.tokenizer": "tokenizers/llama/tokenizer.json",
      "data.sequence_length": 2048,
      "data.window": "stream",
      "optimizer.learning_rate": 3e-4,
      "optimizer.b2": 0.95,
      "optimizer.weight_decay": 0.1,
      "schedule.warmup_fraction": 0.04,
      "train.num_steps": 50_000,
      "train.batch_size": 2048,
      "train.accumulation_steps": 16,
      "train.gradient_clip": 1.0,
      "evaluate.num_batches": 40,
    },
  )


def sweep(arg: str = "paper") -> space.Sweep:
  """Two norms, at LLaMA's rate."""
  _check(arg)
  sites = ("attention_input", "feed_forward_input", "final")
  norms = {
    f"model.slot_norms.{site}": f"dyt(alpha_init={alpha}, use_bias=False)"
    for site, alpha in zip(sites, ALPHAS[arg], strict=True)
  }
  return space.Sweep(
    methods=[
      {"norm.name": "rms_norm"},
      {"norm.name": "dyt", "model.scaled_embeddings": True} | norms,
    ],
    labels=(RMS, DYT),
    seeds=llama_c4.SEEDS,
    metric="train/loss",
    baseline=RMS,
  )


def table(scale: str) -> papers.Table:
  """Training loss by norm and size."""
  del scale
  return papers.Table(
    title="Training loss of LLaMA: DyT",
    paper="dyt",
    target="Table 4 loss",
    cells=[
      papers.Cell(row, size, part=part)
      for row in (RMS, DYT)
      for size, part in SIZES.items()
    ],
    expected=[
      papers.within(
        (DYT, size), (RMS, size), of=0.02, source="Table 4: 0.01 apart"
      )
      for size in SIZES
    ],
    hardware=(
      "devices of 108 GB at 7B, of 208 GB at 13B, as parameters, gradients and"
      " Adam's states are replicated; C4 and LLaMA's tokenizer"
    ),
    differs=(
      "C4 in place of the Pile, whose losses are others: no number of the paper"
      " stands beside a cell, and the claim is on the difference. 210 billion"
      f" tokens in place of 200. {llama_c4.DIFFERS}"
    ),
    notes=(
      llama_c4.ONE_RUN,
      "Not run: 34B and 70B, and the zero-shot scores.",
      "The paper's code takes alpha 1 unless it is told otherwise.",
    ),
    parts=tuple(SIZES.values()),
    units="nats per token",
  )
