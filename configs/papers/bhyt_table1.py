"""Does a bounded tanh beat RMSNorm in a LLaMA on C4?

Claim: BHyT ends below RMSNorm, Peri-LN, LayerNorm Scaling and DyT at 374M and
1B (arXiv:2601.09719, Table 1).
Command: normjax reproduce bhyt_table1 --scale=paper
Time: not measured. Each row tries six pairs of rate and decay.

One sweep per size; that of 374M is `configs/papers/bhyt_table1.py:paper`, the
other `…:paper,1B`, which is Llama 3.2's of 1B. Windows of 1,024 tokens without
gaps, AdamW with betas 0.9 and 0.95, rates of 5e-4, 3e-4 or 1e-4, a decay of 0
or 0.1, a cosine to a tenth: the official scripts. They also choose between two
ends of the cosine, two warm-ups and two pairs of lambda.
"""

import ml_collections

from normjax import configure, errors, papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
RMS, BHYT = "RMSNorm", "BHyT"
PARAMETERS = {
  "paper": {RMS: 374_637_568},
  "paper,1B": {RMS: 1_235_814_400},  # Llama 3.2 1B.
}
# Steps are of 1,024 windows of 1,024 tokens: 7.5 and 21 billion tokens.
_SHARED = {
  "paper": {
    "model.num_heads": 16,
    "model.num_kv_heads": 4,
    "model.model_dim": 1024,
    "model.hidden_dim": 4096,
    "train.num_steps": 7_150,
    "train.accumulation_steps": 32,
  },
  "paper,1B": {
    "model.num_heads": 32,
    "model.num_kv_heads": 8,
    "model.model_dim": 2048,
    "model.hidden_dim": 8192,
    "train.num_steps": 20_000,
    "train.accumulation_steps": 64,
  },
}
SIZES = {"374M": papers.SWEEP, "1B": "1B"}


def _dyt(alpha: float) -> str:
  return f"dyt(alpha_init={alpha}, use_bias=False)"


def _methods(arg: str) -> dict[str, dict[str, object]]:
  """The rows; DyT's own paper has an alpha by width."""
  alpha = 1.0 if arg == "paper" else 0.5
  return {
    RMS: {"model.placement": "pre"},
    "Peri-LN": {"model.placement": "peri"},
    "LNS": {"model.placement": "layer_norm_scaling"},
    "DyT": {
      "norm.name": "dyt",
      "model.scaled_embeddings": True,
      "model.slot_norms.attention_input": _dyt(1.0),
      "model.slot_norms.feed_forward_input": _dyt(alpha),
      "model.slot_norms.final": _dyt(alpha),
    },
    BHYT: {
      "norm.name": "bhyt",
      "model.slot_norms.attention_input": "bhyt(lam_init=2.0)",
      "model.slot_norms.feed_forward_input": "bhyt(lam_init=1.0)",
      "model.slot_norms.final": "rms_norm",
    },
  }


def _check(arg: str) -> None:
  """Raises UserError for an argument that names no sweep of the table."""
  if arg not in _SHARED:
    raise errors.UserError(
      f"unknown argument {arg!r}; allowed: {'; '.join(_SHARED)}."
    )


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  _check(arg)
  return configure.override(
    llama_c4.config("130M"),
    {
      **_SHARED[arg],
      "model.num_layers": 16,
      "model.tied_embeddings": True,
      "model.rope_theta": 500_000.0,
      "data.tokenizer": "tokenizers/llama-3.2/tokenizer.json",
      "data.vocab_size": 128_256,
      "data.sequence_length": 1024,
      "data.window": "stream",
      "data.train_split": "train[:99%]",
      "data.tuning_split": "train[99%:]",
      "optimizer.learning_rate": 3e-4,
      "optimizer.b2": 0.95,
      "train.batch_size": 1024,
      "train.gradient_clip": 1.0,  # The default of the trainer.
      "evaluate.num_batches": 80,
    },
  )


def sweep(arg: str = "paper") -> space.Sweep:
  """The rows of a size, tuned once."""
  _check(arg)
  rows = _methods(arg)
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=llama_c4.SEEDS,
    other_metrics=(llama_c4.METRIC,),
    baseline=RMS,
    tune=space.Tune(
      {
        "optimizer.learning_rate": (1e-4, 3e-4, 5e-4),
        "optimizer.weight_decay": (0.0, 0.1),
      },
      max_extensions=0,
      second_pass=False,
      repeat="shared",
    ),
  )


def table(scale: str) -> papers.Table:
  """Evaluation loss by norm and size."""
  del scale
  rows = list(_methods("paper"))
  return papers.Table(
    title="Loss of LLaMA on C4: BHyT",
    paper="bhyt",
    target="Table 1 374M",
    cells=[
      papers.Cell(
        row, size, part=part, paper=(f"Table 1 {size}", row, "eval loss")
      )
      for row in rows
      for size, part in SIZES.items()
    ],
    expected=[
      *(
        papers.below((BHYT, size), (other, size), source="Table 1")
        for other in rows
        if other != BHYT
        for size in SIZES
      ),
      papers.above(("LNS", "374M"), (RMS, "374M"), source="Table 1"),
      papers.below(("LNS", "1B"), (RMS, "1B"), source="Table 1"),
    ],
    hardware="eight GPUs of 80 GB; C4 and the tokenizer of Llama 3.2",
    differs=(
      "The batch of 1,024 windows is ours, from tokens and steps, so that 1B"
      " sees 21 billion tokens in place of 20; one warm-up, one end of the"
      " cosine and one pair of lambda in place of two each; rotary frequencies"
      f" are not rescaled as Llama 3.2's. {llama_c4.DIFFERS}"
    ),
    notes=(
      llama_c4.ONE_RUN,
      "Numbers are of evaluation; the train losses of 374M are averages over"
      " another window. LayerNorm Scaling loses to RMSNorm at 374M here and"
      " wins at every size in its own paper.",
      "Not run: zero-shot accuracies, fine-tuning, and the 3B table, whose"
      " recipe is the same.",
    ),
    parts=tuple(SIZES.values()),
    units="nats per token",
  )
