"""What do controls keep of batch normalization when queries are few or sorted?

Claim: a network whose batch norm reads the queries of a domain and controls of
the same one is stable where the queries are few or their labels shifted; one
that reads queries alone is not ("Stabilizing In-Context Multi-Source Domain
Adaptation for Biomedical Images Through Controls", abstract). With controls the
accuracy on new batches of cells is 0.935, that of a standard network 0.862.
Command: normjax reproduce cs_arm_bn_queries --scale=proxy
Time: about 4 minutes of CPU time, compilation included.

Digits of 8x8 pixels. A domain is a contrast, a brightness and a noise, drawn
for each seed: 12 to train on, 4 new ones to predict in. The class 0 are the
controls, whose class everybody knows; 1 to 9 are to be told apart. A small
convolutional network learns 10 epochs of blocks of 64 queries (and 128
controls), a block per step, Adam at 0.001, alike for all methods; nothing is
tuned. 100 queries of each new domain come 64, 8 or 1 at a time, mixed or sorted
by label. ERM has running statistics, TBN is ERM's network with those of the
queries; one query is normalized by its own pixels.

Stated beforehand: with 8 queries, with one, and with 64 sorted ones ARM-BN is
below itself with 64 mixed ones, and CS-ARM-BN loses less than half of what
ARM-BN loses; with 64 mixed ones CS-ARM-BN is above ERM. Earlier a run of one
seed with another network had the first directions (0.96 to 0.87 with 8 queries
and 0.59 with 2 of ARM-BN; 0.98 to 0.92 and 0.82 of CS-ARM-BN), and ARM-BN of
one seed of this network fell, too (0.86; 0.82, 0.09 and 0.79).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normjax import papers

SCALES = ("proxy",)
SEEDS = (1, 2, 3, 4, 5)
ERM, TBN, ARM, CS_ARM = "ERM", "TBN", "ARM-BN", "CS-ARM-BN"
METHODS = {ERM: "erm", TBN: "tbn", ARM: "arm_bn", CS_ARM: "cs_arm_bn"}
# Queries per block; one has no order.
SIZES = {"mixed": (64, 8, 1), "sorted": (64, 8)}
NUM_TRAINING, NUM_NEW = 12, 4
NUM_QUERIES = {"train": 150, "new": 100}  # Of each domain.


def _column(size: int, order: str) -> str:
  return f"{size} {order}"


FULL = _column(64, "mixed")
# Where ARM-BN is to fall, in words.
HARD = {
  _column(8, "mixed"): "with 8 queries",
  _column(1, "mixed"): "with one query",
  _column(64, "sorted"): "with 64 sorted queries",
}


def table(scale: str) -> papers.Table:
  """A row per method, a column per number and order of queries."""
  del scale
  new = "new batches"
  printed = {
    (ERM, FULL): ("standard ResNet", new),
    (CS_ARM, FULL): ("meta-learning with controls", new),
  }
  columns = [_column(n, order) for order in SIZES for n in SIZES[order]]
  return papers.Table(
    title="Accuracy in new domains by the number and the order of queries",
    paper="cs_arm_bn",
    target="abstract v1",
    cells=[
      papers.Cell(
        row, column, part=papers.MEASURE, paper=printed.get((row, column))
      )
      for row in METHODS
      for column in columns
    ],
    expected=[
      *(
        papers.below(
          (ARM, column),
          (ARM, FULL),
          claim=f"{words} ARM-BN is below itself with 64 mixed ones",
          source="abstract of the final version",
        )
        for column, words in HARD.items()
      ),
      *(
        papers.Expected(
          f"{words} CS-ARM-BN loses less than half of what ARM-BN loses",
          {
            (ARM, FULL): 0.5,
            (ARM, column): -0.5,
            (CS_ARM, FULL): -1.0,
            (CS_ARM, column): 1.0,
          },
          at_least=0.0,
          source="abstract of the final version; the half is ours",
        )
        for column, words in HARD.items()
      ),
      papers.above(
        (CS_ARM, FULL),
        (ERM, FULL),
        claim="with 64 mixed queries CS-ARM-BN is above ERM",
        source="abstract v1: 0.935 and 0.862",
      ),
    ],
    hardware="two CPU cores",
    differs=(
      "Digits under drawn contrast, brightness and noise, with zeros as"
      " controls, in place of cells on plates; three convolutions in place of"
      " a ResNet-50."
    ),
    notes=(
      "36 zeros are held out, so that the 128 controls of a new domain are"
      " drawn with replacement.",
    ),
    parts=(papers.MEASURE,),
    direction="higher",
  )


def measure(
  scale: str, piece: Callable[..., Any]
) -> Mapping[tuple[str, str], Sequence[float]]:
  """Accuracy over all new domains, of each seed's network."""
  del scale
  found: dict[tuple[str, str], list[float]] = {}
  for seed in SEEDS:
    for cell, value in piece(f"seed {seed}", _accuracies, seed):
      found.setdefault(tuple(cell), []).append(value)
  return found


def _accuracies(seed: int) -> list[tuple[tuple[str, str], float]]:
  """Those of the networks of a seed, by cell."""
  import numpy as np
  from flax import nnx

  from normjax import context, data
  from normjax.reproduce.small_conv import SmallConv

  digits = data.make("digits", scaling="unit", tuning_split=False)
  generator = np.random.default_rng(seed)
  train = _domains(digits.train, NUM_TRAINING, NUM_QUERIES["train"], generator)
  new = _domains(digits.validation, NUM_NEW, NUM_QUERIES["new"], generator)
  found = []
  for row, method in METHODS.items():
    if row != TBN:  # Trained as ERM is.
      model = context.train(
        SmallConv(9, train.inputs.shape[1:], rngs=nnx.Rngs(seed)),
        train,
        method,
        blocks_per_step=1,
        epochs=10,
        seed=seed,
      )
    of_column: dict[str, list[float]] = {}
    for order, sizes in SIZES.items():
      for each in context.accuracies(
        model, new, method, sizes=sizes, orders=(order,), seed=seed
      ):
        column = _column(each["size"], order)
        of_column.setdefault(column, []).append(each["accuracy"])
    for column, own in of_column.items():  # As many queries in each domain.
      found.append(((row, column), float(np.mean(own))))
  return found


def _domains(part: Any, number: int, num_queries: int, generator: Any) -> Any:
  """Examples of drawn domains: all zeros as controls, some others as queries.

  Args:
    part: images of bytes up to 16, and labels.
    number: of domains.
    num_queries: of each.
    generator: of all draws.
  """
  import numpy as np

  from normjax import context

  images, labels = np.asarray(part[0], np.float64) / 16, np.asarray(part[1])
  zeros, others = np.flatnonzero(labels == 0), np.flatnonzero(labels)
  inputs, index = [], []
  for _ in range(number):
    own = generator.choice(others, num_queries, replace=False)
    chosen = np.concatenate([zeros, own])
    contrast = generator.uniform(0.3, 1.0)
    brightness = generator.uniform(-0.3, 0.3)
    noise = generator.uniform(0.0, 0.3)
    x = 0.5 + contrast * (images[chosen] - 0.5) + brightness
    x = x + noise * generator.standard_normal(x.shape)
    inputs.append(np.clip(x, 0.0, 1.0) - 0.5)
    index.append(chosen)
  chosen = np.concatenate(index)
  return context.Domains(
    np.concatenate(inputs).astype(np.float32),
    np.maximum(labels[chosen] - 1, 0),
    np.repeat(np.arange(number), [len(own) for own in index]),
    labels[chosen] == 0,
  )
