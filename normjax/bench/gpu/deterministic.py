"""Whether the same steps end with the same bits, and what asking for it costs.

The flag is that of `train.deterministic`.
"""

import zlib

import jax
import numpy as np

from normjax.bench import model_families
from normjax.bench.gpu import clock, steps
from normjax.bench.gpu.worker import Stage
from normjax.train import precision, program

_NUM_STEPS = 20


def run(stage: Stage) -> None:
  """Two runs of a ResNet's first steps, plain and deterministic."""
  models = {
    name: (steps.TINY if stage.tiny else steps.MODELS)[name]
    for name in ("resnet" if stage.tiny else "resnet50",)
  }
  for name, model in models.items():
    for label, options in (
      ("plain", None),
      ("deterministic", program.DETERMINISTIC),
    ):
      with stage.item(f"{name} {label}") as found:
        init, apply, tx = steps.ours(model, "float32")
        inputs, targets = steps.batch(model)
        state = model_families.state_of(init, tx)
        with precision.applied(steps.PRODUCTS):
          lowered = jax.jit(model_families.step_of(apply, tx)).lower(
            state, inputs, targets
          )
        step = lowered.compile(options)
        found["digests"] = [
          _digest(step, state, inputs, targets) for _ in range(2)
        ]
        found["equal"] = len(set(found["digests"])) == 1
        clock.measure(found, clock.calls(step, [(state, inputs, targets)]))


def _digest(step, state, inputs, targets) -> str:
  """Of the parameters after some steps."""
  for _ in range(_NUM_STEPS):
    state, _ = step(state, inputs, targets)
  digest = 0
  for leaf in jax.tree.leaves(state[0]):
    digest = zlib.crc32(np.asarray(leaf).tobytes(), digest)
  return f"{digest:08x}"
