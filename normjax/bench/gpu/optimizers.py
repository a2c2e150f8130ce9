"""One update of optimizers whose kernels matter, on a LLaMA's leaves."""

import optax

from normjax import optim
from normjax.bench import contest, leaves
from normjax.bench.gpu import clock
from normjax.bench.gpu.worker import Stage

# Those first whose updates move the most beside what they must.
_FIRST = ("adam_8bit", "sinkgd", "muon", "adamw", "swan", "apollo", "galore")
_SIZES = {"num_layers": 12, "model_dim": 512, "hidden_dim": 1376}
_TINY = {"num_layers": 1, "model_dim": 16, "hidden_dim": 32}


def run(stage: Stage) -> None:
  """All of ours, and optax's AdamW."""
  sizes = _TINY if stage.tiny else _SIZES
  shapes = leaves.llama(**sizes, vocab_size=64 if stage.tiny else 4096)
  names = _FIRST[:3] if stage.tiny else [*_FIRST, *_others()]
  for name in names:
    with stage.item(f"normjax {name}") as found:
      tx = optim.make(name, learning_rate=1e-3)
      ran = contest.from_optax(name, tx, shapes)
      found |= ran.facts
      clock.measure(found, ran.run)
  with stage.item("optax adamw") as found:
    ran = contest.from_optax("adamw", optax.adamw(1e-3), shapes)
    found |= ran.facts
    clock.measure(found, ran.run)


def _others() -> list[str]:
  return [name for name in optim.names() if name not in _FIRST]
