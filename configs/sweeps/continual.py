"""Does a norm forget less, or the batch that it normalizes?

Claim: statistics that are balanced over tasks forget less than those of batch
norm (AdaB2N, arXiv:2310.08855: up to 7.7 points of accuracy on split CIFAR-10),
and so does continual normalization (arXiv:2203.16102). A control is batch norm
itself where new and replayed examples share a batch.
Command: normjax sweep configs/sweeps/continual.py
Time: not measured; `--dry_run` says what runs.

Real digits in five tasks of two classes, in an order of classes per seed, about
one epoch of each, in batches of 10 new examples and 10 of each draw from a
buffer of 100: the online protocol of the AdaB2N repository, on a small ResNet.
Learners are DER++ (arXiv:2004.07211) and experience replay (arXiv:1902.10486),
each with both ways for a replay to pass the model, and training without a
memory as the lower end. AdaB2N has kappa 0.4 and a penalty of weight 1.

For each of five seeds each row tries three learning rates of SGD, a factor 3
apart; where the best of some lies on an edge, all grids grow by a notch. Rows
are compared by the accuracy among all classes after the last task, the mean
over tasks; beside it: where the task is known, and how far both fell.
"""

import itertools

import ml_collections

from normjax import configure
from normjax import sweep as space

LEARNERS = {"DER++": "derpp(alpha=0.1, beta=0.5)", "ER": "er"}
NORMS = {
  "batch norm": {"norm.name": "batch_norm"},
  "CN": {"norm.name": "cn", "norm.num_groups": 4},
  "AdaB2N": {
    "norm.name": "adab2n",
    "norm.kappa": 0.4,
    "continual.penalty": 1.0,
  },
}
FORWARDS = ("joint", "separate")


def _methods() -> dict[str, dict]:
  found = {}
  for learner, norm, forward in itertools.product(LEARNERS, NORMS, FORWARDS):
    found[f"{learner}, {norm}, {forward}"] = {
      **NORMS[norm],
      "continual.learner": LEARNERS[learner],
      "continual.forward": forward,
    }
  no_memory = {**NORMS["batch norm"], "continual.learner": "finetune"}
  return {**found, "no memory, batch norm": no_memory}


METHODS = _methods()


def get_config() -> ml_collections.ConfigDict:
  """The run that all points share: a ResNet on digits in five tasks."""
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "cifar_resnet", depth=8, width=8)
  config.norm = configure.component("norm", "batch_norm")
  config.optimizer = configure.component(
    "optimizer", "sgd", learning_rate=0.1, momentum=0.0
  )
  config.data = configure.component("data", "digits")
  return configure.override(
    config,
    {
      "schedule.name": "constant",
      "schedule.warmup_fraction": 0.0,
      "train.batch_size": 10,
      "train.num_steps": 145,  # About one epoch of each task.
      "train.gradient_clip": 0.0,
      "continual.learner": "finetune",
      "continual.num_tasks": 5,
      "continual.buffer_size": 100,
      "continual.replay_size": 10,
      "evaluate.every_steps": 145,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
    },
  )


def sweep() -> space.Sweep:
  """Learner, norm and forward, compared with batch norm on the joint batch."""
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=tuple(METHODS),
    seeds=(1, 2, 3, 4, 5),
    metric="eval/class_incremental/average",
    mode="max",
    other_metrics=(
      "eval/class_incremental/forgetting",
      "eval/task_incremental/average",
      "eval/task_incremental/forgetting",
    ),
    tune=space.Tune(
      {"optimizer.learning_rate": (1 / 3, 1.0, 3.0)}, relative=True
    ),
  )
