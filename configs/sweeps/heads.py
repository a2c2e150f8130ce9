"""Does a head of class vectors classify better than a linear one?

Claim: fixed, nearly orthogonal class vectors are as good as a trained linear
head (arXiv:2303.11637), and so are cosines with trained ones (arXiv:1811.12649,
of retrieval).
Command: normjax sweep configs/sweeps/heads.py
Time: not measured; `--dry_run` says what runs.

An MLP on real digits. Each head tries three learning rates of AdamW, a factor 4
apart, for each of five seeds; where the best of some lies on an edge, all grids
grow by a notch. Temperatures are the papers': 0.05, and 0.07 for equiangular
vectors, of which there are as many as dimensions, or ten in six. Proxy-NCA has
the exponent of its paper, squared distances.

Rows are compared by accuracy: temperatures differ, and so do the losses of
heads that classify alike. Beside it: the loss, in all rows the nll, the share
of examples whose class is among the two best, how unevenly classes are found,
and the calibration error.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

METHODS = {
  "linear": {},
  "normalized softmax": {"model.head": "normalized_softmax"},
  "normalized softmax, learned scale": {
    "model.head": "normalized_softmax(standardize=False, learn_scale=True)"
  },
  "equiangular": {"model.head": "equiangular"},
  "equiangular, 6 dimensions": {
    "model.head": "equiangular(embedding_dim=6, tau=0.4)"
  },
  "prototype": {"model.head": "prototype"},
  "proxy-NCA": {
    "model.head": "normalized_softmax(temperature=0.5)",
    "objective.name": "proxy_nca",
  },
}


def get_config() -> ml_collections.ConfigDict:
  """The run that all points share: an MLP on digits."""
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "mlp", num_layers=2)
  config.data = configure.component("data", "digits")
  return configure.override(
    config,
    {
      "optimizer.learning_rate": 0.003,
      "train.num_steps": 220,  # About ten epochs.
      "evaluate.every_steps": 110,
      "evaluate.metrics": (
        "recall_at_k(k=2)",
        "hubness_skewness",
        "calibration_error",
      ),
    },
  )


def sweep() -> space.Sweep:
  """Heads, each tuned for each of five seeds, compared with the linear one."""
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=tuple(METHODS),
    seeds=(1, 2, 3, 4, 5),
    metric="eval/accuracy",
    mode="max",
    other_metrics=(
      "eval/loss",
      "eval/recall_at_k(k=2)",
      "eval/hubness_skewness",
      "eval/calibration_error",
    ),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.25, 1.0, 4.0)}, relative=True
    ),
  )
