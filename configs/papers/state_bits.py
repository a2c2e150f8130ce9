"""Do optimizers with states of 8 bits train as those of 32 bits do?

Claim: with block-wise quantization they do, at unchanged hyper-parameters
(arXiv:2110.02861, abstract). The bound, 0.02 nats, is just below what TorchAO's
states of 4 bits lose at least: 0.0205, of a Llama of 130M, in Table 4 of
"Rounding in Preconditioner Space" (nubank/adamw4bit).
Command: normjax reproduce state_bits --scale=proxy
Time: about 5 minutes on two cores, compilation included.

A LLaMA of 0.5 million parameters on bytes of Shakespeare, 300 steps of 16 x 64.
Blocks of 256 entries of the flattened tensor and embeddings in 32 bits, as in
bitsandbytes with its own embedding layer. Fixed rates, alike for 8 and 32 bits,
since the claim is of unchanged ones: 0.003 of AdamW, 0.1 of momentum. The
papers' own numbers are of models above 100 million parameters.
"""

import ml_collections

from normjax import configure, papers
from normjax import sweep as space

SCALES = ("proxy",)
BOUND_NATS = 0.02
_BLOCKS = {"optimizer.block_size": 256, "optimizer.block_layout": "flat"}
_ADAMW = {"optimizer.learning_rate": 3e-3, "optimizer.weight_decay": 0.01}
_MOMENTUM = {"optimizer.learning_rate": 0.1, "optimizer.momentum": 0.9}
METHODS = {
  "AdamW, 32 bits": {"optimizer.name": "adamw"} | _ADAMW,
  "AdamW, 8 bits": {"optimizer.name": "adamw_8bit"} | _ADAMW | _BLOCKS,
  "momentum, 32 bits": {"optimizer.name": "sgd"} | _MOMENTUM,
  "momentum, 8 bits": {"optimizer.name": "momentum_8bit"} | _MOMENTUM | _BLOCKS,
}


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The run that all points share: the default one, twice as wide."""
  space.words(arg, SCALES)
  return configure.override(
    configure.load("configs/default.py"),
    {
      "model.model_dim": 128,
      "evaluate.every_steps": 300,
      "evaluate.num_batches": 32,
      "checkpoint.every_steps": 0,
    },
  )


def sweep(arg: str = "proxy") -> space.Sweep:
  """Two optimizers at two precisions, five seeds."""
  space.words(arg, SCALES)
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    seeds=(1, 2, 3, 4, 5),
    baseline="AdamW, 32 bits",
  )


def table(scale: str) -> papers.Table:
  """Optimizers by the bits of their states."""
  del scale
  bits = ("32 bits", "8 bits")
  optimizers = ("AdamW", "momentum")
  return papers.Table(
    title="Loss by the bits of the optimizer's state",
    paper="eightbit",
    target=None,
    cells=[
      papers.Cell(optimizer, column, method=f"{optimizer}, {column}")
      for optimizer in optimizers
      for column in bits
    ],
    expected=[
      papers.within(
        (optimizer, bits[1]),
        (optimizer, bits[0]),
        of=BOUND_NATS,
        claim=f"{optimizer} of 8 bits is within {BOUND_NATS} nats of 32 bits",
        source="abstract; the bound: Table 4 of nubank/adamw4bit",
      )
      for optimizer in optimizers
    ],
    hardware="two CPU cores",
    differs=(
      "0.5 million parameters and bytes of Shakespeare, untuned: fixed rates."
    ),
    notes=(
      "The paper's own tables could not be read; the abstract says that quality"
      " stays. 0.02 nats are below what TorchAO's 4-bit states lose at least,"
      " 0.0205 in Table 4 of nubank/adamw4bit; better roundings of 4 bits lose"
      " less there.",
    ),
    units="nats",
  )
