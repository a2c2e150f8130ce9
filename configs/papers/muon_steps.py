"""Does Muon need fewer steps than AdamW, and NorMuon no more than Muon?

Claim: to reach a loss of 3.28 on FineWeb, a GPT of 124 million parameters needs
3,325 steps of Muon, 3,250 of NorMuon and 5,625 of an Adam that is likely
under-tuned (KellerJordan/modded-nanogpt, track 3). Here of the order alone: at
equal steps NorMuon's loss is at most Muon's, and Muon's is below AdamW's; Muon
is at a loss of 2.2 in fewer steps.
Command: normjax reproduce muon_steps --scale=proxy
Time: about 6 minutes on two cores, compilation included.

The default LLaMA of two blocks of width 64 on bytes of Shakespeare, 300 steps
of 16 x 64. Each row tunes its learning rate for each seed: three values, a
factor 2 apart, around 0.003 of AdamW and 0.02 of Muon and NorMuon; where the
best of some lies on an edge, all grids grow by a notch, twice at most. The
AdamW beside Muon has AdamW's first guess. Steps are counted at evaluations, 30
apart.
"""

import ml_collections

from normjax import configure, papers
from normjax import sweep as space

SCALES = ("proxy",)
ADAMW, MUON, NORMUON = "AdamW", "Muon", "NorMuon"
_ADAMW_RATE = 3e-3
_MATRICES = {
  "optimizer.learning_rate": 0.02,
  "optimizer.fallback_learning_rate": _ADAMW_RATE,
}
METHODS = {
  ADAMW: {"optimizer.name": "adamw", "optimizer.learning_rate": _ADAMW_RATE},
  MUON: {"optimizer.name": "muon"} | _MATRICES,
  NORMUON: {"optimizer.name": "normuon"} | _MATRICES,
}
STEPS = "steps_to(eval/loss<=2.2)"


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The default run, evaluated more often, on less."""
  space.words(arg, SCALES)
  return configure.override(
    configure.load("configs/default.py"),
    {
      "evaluate.every_steps": 30,
      "evaluate.num_batches": 4,
      "checkpoint.every_steps": 0,
    },
  )


def sweep(arg: str = "proxy") -> space.Sweep:
  """Three optimizers, tuned for each of five seeds."""
  space.words(arg, SCALES)
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)},
      relative=True,
      second_pass=False,
    ),
    baseline=ADAMW,
    other_metrics=(STEPS,),
  )


def table(scale: str) -> papers.Table:
  """Loss at equal steps, and steps to a loss."""
  del scale
  loss, steps = "loss", "steps to the target"
  of_source = {
    ADAMW: "Adam lr .0015 (undertuned)",
    MUON: "Muon lr .035 wd .025",
    NORMUON: "NorMuon lr .035 wd .025",
  }
  source = "records/track_3_optimization/README.md"
  return papers.Table(
    title="Loss of Muon and AdamW at equal steps, and steps to a loss",
    paper="modded_nanogpt_track3",
    target="steps to 3.28",
    cells=[
      cell
      for row in METHODS
      for cell in (
        papers.Cell(row, loss),
        papers.Cell(row, steps, metric=STEPS, paper=(of_source[row], "steps")),
      )
    ],
    expected=[
      papers.below(
        (MUON, loss),
        (ADAMW, loss),
        claim="at equal steps Muon's loss is below AdamW's",
        source=source,
      ),
      papers.below(
        (NORMUON, loss),
        (MUON, loss),
        claim="at equal steps NorMuon's loss is at most Muon's",
        source=source,
      ),
      papers.below(
        (MUON, steps),
        (ADAMW, steps),
        claim="Muon is at the target in fewer steps than AdamW",
        source=source,
      ),
    ],
    hardware="two CPU cores",
    differs=(
      "0.1 million parameters on bytes of Shakespeare, 300 steps; the target is"
      " a loss of 2.2 nats per byte, there 3.28 per token of FineWeb; all rows"
      " are tuned alike, which the source's Adam was not."
    ),
  )
