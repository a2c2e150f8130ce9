"""Does the optimizer decide how fast rank grows with the width of a layer?

Claim: the hard rank of squared-ReLU activations grows as a power of the
feed-forward's width, whose exponent is 2.3 times larger with Muon than with
AdamW on rare tokens (arXiv:2605.21803, abstract), and more than twice on all
(its code's main table: 0.82 and 0.29); the soft rank tells them apart less.
Command: normjax reproduce spectral_widths --scale=proxy
Time: 6.5 minutes of CPU time, compilation included.

Two blocks of width 64 on bytes of Shakespeare with feed-forwards of 64 to 512
units, 200 steps of 8 x 64. Ranks are of activations after the nonlinearity,
over the same 10,240 held-out tokens at every width: 20 per unit of the widest.
As in the paper each optimizer has one rate for all widths: the best of four at
2x, by the loss of another seed on data to tune on (AdamW 0.001 to 0.027, Muon
and NorMuon 0.01 to 0.08, SinkGD, of six, 0.005 to 0.16; none best on an edge;
AdamW on what they leave has 0.003). The statements are of AdamW and Muon:
NorMuon and SinkGD were added when these were judged, and are there to be read.
An exponent is a weighted sum of the logarithms of four ranks, seed by seed; its
interval is over seeds, where the paper's, of one run per width, is of the
residuals of the line.
"""

import ml_collections

from normjax import configure, papers
from normjax import sweep as space
from normjax.statistics import power_law

SCALES = ("proxy",)
MODEL_DIM = 64
MULTIPLES = (1, 2, 4, 8)
ADAMW, MUON, NORMUON, SINKGD = "AdamW", "Muon", "NorMuon", "SinkGD"
OPTIMIZERS = {
  ADAMW: {
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 9e-3,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.95,
    "optimizer.weight_decay": 0.01,
  },
  MUON: {
    "optimizer.name": "muon",
    "optimizer.learning_rate": 0.04,
    "optimizer.weight_decay": 0.01,
    "optimizer.fallback_learning_rate": 3e-3,
  },
  NORMUON: {
    "optimizer.name": "normuon",
    "optimizer.learning_rate": 0.04,
    "optimizer.weight_decay": 0.01,
    "optimizer.fallback_learning_rate": 3e-3,
  },
  SINKGD: {
    "optimizer.name": "sinkgd",
    "optimizer.learning_rate": 0.08,
    "optimizer.fallback_learning_rate": 3e-3,
  },
}
STATED, UNSTATED = (ADAMW, MUON), (NORMUON, SINKGD)
OTHERS = "others"  # The sweep of those that no statement is about.
KINDS = ("hard", "soft")
_WEIGHTS = power_law.slope_weights(MULTIPLES)


def _rank(kind: str, log: bool = False) -> str:
  return f"ffn_{kind}_rank" + ("(log=True)" if log else "")


def _label(optimizer: str, multiple: int) -> str:
  return f"{optimizer} {multiple}x"


def _optimizers(arg: str) -> tuple[str, ...]:
  """Those of a part: the table's own, or the others'."""
  scale = arg.removesuffix(f",{OTHERS}")
  space.words(scale, SCALES)
  return STATED if scale == arg else UNSTATED


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The run that all points share: the paper's model, made small."""
  _optimizers(arg)
  return configure.override(
    configure.load("configs/default.py"),
    {
      "model.model_dim": MODEL_DIM,
      "model.hidden_dim": MODEL_DIM,
      "model.activation": "squared_relu",
      "model.init": "width_scaled",
      "model.embedding_std": 1.0,
      "model.slot_norms.query_key": "rms_norm(use_scale=False)",
      "norm.use_scale": False,
      "schedule.name": "wsd",
      "schedule.warmup_fraction": 0.0,
      "schedule.decay_fraction": 0.2,
      "schedule.final_fraction": 0.0,
      "train.num_steps": 200,
      "train.batch_size": 8,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": 200,
      "evaluate.batch_size": 16,
      "evaluate.num_batches": 10,
      "evaluate.metrics": tuple(
        _rank(kind, log) for kind in KINDS for log in (False, True)
      ),
      "checkpoint.every_steps": 0,
    },
  )


def sweep(arg: str = "proxy") -> space.Sweep:
  """Two optimizers at four widths, five seeds."""
  optimizers = _optimizers(arg)
  points = {
    _label(optimizer, multiple): {
      **OPTIMIZERS[optimizer],
      "model.hidden_dim": multiple * MODEL_DIM,
    }
    for optimizer in optimizers
    for multiple in MULTIPLES
  }
  return space.Sweep(
    methods=list(points.values()),
    labels=list(points),
    seeds=(1, 2, 3, 4, 5),
    baseline=_label(optimizers[0], MULTIPLES[0]),
    other_metrics=tuple(f"eval/{_rank(kind)}" for kind in KINDS),
  )


def _columns(kind: str) -> tuple[str, str]:
  return f"{kind} rank", f"log of the {kind} rank"


def exponent(optimizer: str, kind: str) -> dict[papers.Ref, float]:
  """The terms of an exponent: weights of the logarithms of ranks."""
  return {
    (_label(optimizer, multiple), _columns(kind)[1]): float(weight)
    for multiple, weight in zip(MULTIPLES, _WEIGHTS, strict=True)
  }


def _less(
  a: dict[papers.Ref, float], b: dict[papers.Ref, float]
) -> dict[papers.Ref, float]:
  return a | {ref: -weight for ref, weight in b.items()}


def table(scale: str) -> papers.Table:
  """Ranks by optimizer and width; statements on their exponents."""
  del scale
  gaps = {
    kind: _less(exponent(MUON, kind), exponent(ADAMW, kind)) for kind in KINDS
  }
  hard, soft = (f"main, {kind} rank" for kind in KINDS)
  return papers.Table(
    title="Rank of activations by optimizer and width",
    paper="spectral_scaling",
    target=None,
    cells=[
      cell
      for optimizer in OPTIMIZERS
      for multiple in MULTIPLES
      for kind in KINDS
      for cell in (
        papers.Cell(
          _label(optimizer, multiple),
          _columns(kind)[0],
          metric=f"eval/{_rank(kind)}",
          part=papers.SWEEP if optimizer in STATED else OTHERS,
        ),
        papers.Cell(
          _label(optimizer, multiple),
          _columns(kind)[1],
          metric=f"eval/{_rank(kind, log=True)}",
          part=papers.SWEEP if optimizer in STATED else OTHERS,
        ),
      )
    ],
    expected=[
      papers.Expected(
        "Muon's exponent of the hard rank is above AdamW's",
        gaps["hard"],
        at_least=0.0,
        source=hard,
      ),
      papers.Expected(
        "the exponents differ more in the hard rank than in the soft one",
        _less(gaps["hard"], gaps["soft"]),
        at_least=0.0,
        source=f"{hard}; {soft}",
      ),
      papers.Expected(
        "AdamW's exponent of the soft rank is above that of the hard one",
        _less(exponent(ADAMW, "soft"), exponent(ADAMW, "hard")),
        at_least=0.0,
        source=f"{hard}; {soft}",
      ),
      papers.below(
        (_label(MUON, 1), _columns("hard")[0]),
        (_label(ADAMW, 1), _columns("hard")[0]),
        claim="at 1x Muon's hard rank is below AdamW's",
        source="points, hard_rank",
      ),
      *(
        papers.Expected(
          f"{optimizer}'s exponent of the {kind} rank is above 0",
          exponent(optimizer, kind),
          at_least=0.0,
          source=source,
        )
        for optimizer in STATED
        for kind, source in zip(KINDS, (hard, soft), strict=True)
      ),
    ],
    hardware="two CPU cores",
    differs=(
      "Two blocks of width 64 on bytes of Shakespeare for 200 steps of 512"
      " tokens, in place of 12 of width 768 on FineWeb for 6,000 of 0.5M; four"
      " widths of eight; ranks of 10,240 held-out tokens after the last step,"
      " not the median of five training steps; kernels that write to the stream"
      " start at 1 / 16; AdamW, not Lion, on Muon's embedding and head."
    ),
    notes=(
      "A larger exponent is not a larger rank: read the ranks, too.",
      "Of the paper's eight points of Muon the last equals a point of NorMuon"
      " to the last digit; without it the exponent of the hard rank is 1.16,"
      " not 0.82 (experiments/spectral_scaling).",
    ),
    parts=(papers.SWEEP, OTHERS),
    direction="",
  )
