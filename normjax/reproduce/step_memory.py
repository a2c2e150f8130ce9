"""Memory of a LLaMA's training step: as papers count it, and as compiled.

The four methods of SLTrain's memory figure (arXiv:2406.02214, figure 3 in
andyjm3/SLTrain at 2335d62). Parameters are bfloat16. Adam's moments are
bfloat16, too, as PyTorch's are of such parameters; 8-bit moments are in flat
blocks of 256, those of embeddings included, as bitsandbytes has them. The
repository has no 8-bit GaLore: that is `optim.galore(bits=8)`, P in bfloat16.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from kernels_pallas import aot
from normjax import configure, errors, memory, optim
from normjax.bench import compiled_steps
from normjax.papers import llama_c4


class SLTrain(NamedTuple):
  """What the official script of a size says, and the model's dimensions."""

  rank: int
  density: float
  alpha: float
  model: Mapping[str, Any]

  @property
  def linear(self) -> str:
    """As `model.linear` has it."""
    return (
      f"sltrain(rank={self.rank}, density={self.density}, alpha={self.alpha})"
    )


# Ranks are those of GaLore at the same size, too; so says its paper of 60M to
# 1B, and of 7B its README.
SIZES: Mapping[str, SLTrain] = {
  "60M": SLTrain(128, 0.03, 32.0, {"size": "60m"}),
  "130M": SLTrain(256, 0.03, 16.0, {"size": "130m"}),
  "350M": SLTrain(256, 0.03, 16.0, {"size": "350m"}),
  "1B": SLTrain(512, 0.03, 8.0, {"size": "1b"}),
  "7B": SLTrain(1024, 0.05, 8.0, {"size": "7b"}),
}
ADAM, ADAM_8BIT, GALORE, SLTRAIN = METHODS = (
  "Adam",
  "8-bit Adam",
  "8-bit GaLore",
  "8-bit SLTrain",
)
# Its positions are int64 in the official code, int32 here.
OFFICIAL_POSITION_BYTES = memory.PAPER_INDEX_BYTES


def adam(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
  """Adam with moments of 16 bits."""
  dtypes = {"mu_dtype": jnp.bfloat16, "nu_dtype": jnp.bfloat16}
  return optim.adamw(learning_rate, weight_decay=0.0, **dtypes)


def adam_8bit(
  learning_rate: optax.ScalarOrSchedule,
) -> optax.GradientTransformation:
  """Adam with moments of 8 bits, where bitsandbytes has them."""
  return optim.adam_8bit(learning_rate, block_layout="flat", keep=None)


def galore_8bit(
  learning_rate: optax.ScalarOrSchedule, rank: int = 128
) -> optax.GradientTransformation:
  """GaLore with moments of 8 bits, and that Adam elsewhere."""
  return optim.galore(
    learning_rate,
    rank=rank,
    bits=8,
    mu_dtype=jnp.bfloat16,
    fallback=adam_8bit(learning_rate),
  )


def config(method: str, size: str, vocab_size: int = 32_000) -> ConfigDict:
  """A step on one sequence of 256 tokens, layers in a loop.

  Args:
    method: of `METHODS`.
    size: of `SIZES`.
    vocab_size: fewer tokens make the embedding and the head small.
  """
  of = SIZES[size]
  made = llama_c4.config(llama_c4.SMALLEST)
  made.data = configure.component(
    "data",
    "normjax.bench.compiled_steps:tokens",
    vocab_size=vocab_size,
    length=256,
  )
  name = {ADAM: "adam", GALORE: "galore_8bit"}.get(method, "adam_8bit")
  options = {"rank": of.rank} if method == GALORE else {}
  made.optimizer = configure.component(
    "optimizer", f"{__name__}:{name}", learning_rate=1e-3, **options
  )
  linear = of.linear if method == SLTRAIN else "dense"
  return configure.override(
    made,
    {
      **{f"model.{key}": value for key, value in of.model.items()},
      "model.linear": linear,
      "train.batch_size": 1,
      "train.accumulation_steps": 1,
      "train.param_dtype": "bfloat16",
    },
  )


@dataclasses.dataclass(frozen=True)
class Counted:
  """What a method holds from step to step.

  Attributes:
    num_parameters: that are trained.
    parameter_bytes: of these.
    state_bytes: of the optimizer.
    num_positions: of sparse entries.
  """

  num_parameters: int
  parameter_bytes: int
  state_bytes: int
  num_positions: int

  def total_bytes(self, position_bytes: int) -> int:
    """Parameters, states and positions: what papers call an estimate."""
    held = self.parameter_bytes + self.state_bytes
    return held + position_bytes * self.num_positions


def counted(config: ConfigDict) -> Counted:
  """The same of the state of real training, in shapes alone."""
  found = memory.bytes_of(config)
  trained = found.part("trained")
  return Counted(
    num_parameters=trained.num_entries,
    parameter_bytes=trained.held_bytes,
    state_bytes=found.total.optimizer_state_bytes,
    num_positions=found.part("indices").num_entries,
  )


class Compiled(NamedTuple):
  """Of a step as its compiler has it.

  Attributes:
    arguments: that it is given: parameters, states, positions, the batch.
    temporaries: beside them: gradients, activations, workspace.
    peak: both, and results that are in the memory of no argument.
  """

  arguments: int
  temporaries: int
  peak: int


def compiled(config: ConfigDict, target: str | None) -> Compiled:
  """Bytes of a training step, its state overwritten as in real training.

  Args:
    config: of `config`.
    target: of `aot.TARGETS`, which need not be here; None: the CPU.

  Raises:
    UserError: what compiles for the target is not installed.
  """
  if target is None:
    step = compiled_steps.step(config)
    lowered = jax.jit(step.function, donate_argnums=step.donated).lower(
      *step.arguments
    )
    said = lowered.compile().memory_analysis()
    given, temporary = said.argument_size_in_bytes, said.temp_size_in_bytes
    fresh = said.output_size_in_bytes - said.alias_size_in_bytes
    return Compiled(given, temporary, given + fresh + temporary)
  if reason := aot.missing(target):
    raise errors.UserError(f"a step for {target}: {reason}")
  with aot.abstract(target):
    step = compiled_steps.step(config)
  made = aot.compile(
    step.function,
    *step.arguments,
    target=target,
    donate=step.donated,
    machine_code=False,
  )
  return Compiled(made.argument_bytes, made.temporary_bytes, made.peak_bytes)
