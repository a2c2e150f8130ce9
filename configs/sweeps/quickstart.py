"""Which of nine pairs of norm and optimizer trains a small decoder best?

Claim: none; a first look at what a sweep gives, on real text.
Command: normjax sweep configs/sweeps/quickstart.py
Time: under 4 minutes on two cores, compilation included.

Each pair has the learning rate that configs/sweeps/tuned.py chose for it, with
another seed and more steps; DyT with AdamW half of that, which fewer steps need
(chosen with seeds 11 to 13). DyT has the better of two alphas: AdamW needs 16
at this width, where embeddings start at 0.02 sqrt(64), and Muon and SinkGD
need 1.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space


def dyt(alpha_init: float) -> dict:
  """As in the paper's LLaMAs: no bias, scaled embeddings.

  Section 5 of arXiv:2503.10622; its tables 10 and 11 give alpha by width, 1024
  and up, larger where a model is narrower.
  """
  return {
    "norm.name": "dyt",
    "norm.alpha_init": alpha_init,
    "norm.use_bias": False,
    "model.scaled_embeddings": True,
  }


def adamw(learning_rate: float) -> dict:
  """AdamW for all parameters."""
  return {"optimizer.name": "adamw", "optimizer.learning_rate": learning_rate}


def muon(learning_rate: float) -> dict:
  """Muon for matrices; AdamW for embeddings, head and gains."""
  return {
    "optimizer.name": "muon",
    "optimizer.learning_rate": learning_rate,
    "optimizer.fallback_learning_rate": 0.01,
  }


def sinkgd(learning_rate: float) -> dict:
  """SinkGD for matrices; AdamW for embeddings, head and gains."""
  return {"optimizer.name": "sinkgd", "optimizer.learning_rate": learning_rate}


LAYER_NORM = {"norm.name": "layer_norm"}
RMS_NORM = {"norm.name": "rms_norm"}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  if arg:
    return configure.load(f"configs/default.py:{arg}")
  return configure.override(
    configure.load("configs/default.py"),
    {
      "train.num_steps": 200,
      "evaluate.every_steps": 100,
      "evaluate.num_batches": 8,
    },
  )


def methods() -> list[dict]:
  """The nine rows."""
  return [
    LAYER_NORM | adamw(3e-3),
    LAYER_NORM | muon(0.02),
    LAYER_NORM | sinkgd(0.04),
    RMS_NORM | adamw(3e-3),
    RMS_NORM | muon(0.02),
    RMS_NORM | sinkgd(0.04),
    dyt(alpha_init=16.0) | adamw(3e-3),
    dyt(alpha_init=1.0) | muon(0.04),
    dyt(alpha_init=1.0) | sinkgd(0.16),
  ]


def sweep() -> space.Sweep:
  """{layer_norm, rms_norm, dyt} x {adamw, muon, sinkgd}, five seeds."""
  return space.Sweep(methods=methods(), seeds=(1, 2, 3, 4, 5))
