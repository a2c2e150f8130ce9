"""Members of a population beside each other, against one by one.

A small decoder, as sweeps have many of: the choice that a sweep makes by
`population="auto"`, with the times it is made by.
"""

import tempfile
from pathlib import Path
from typing import Any

from normjax import build, configure
from normjax.bench import compiled_steps
from normjax.bench.gpu.worker import Stage
from normjax.record import choices
from normjax.train.population import choice
from normjax.train.request import Run

_SIZES = (4, 16, 64)
_MODEL = {"model.size": "tiny", "train.num_devices": 1, "data.vocab_size": 256}
_BATCH = {"train.batch_size": 8, "data.length": 64}
_TINY = {"train.batch_size": 2, "data.length": 8}


def run(stage: Stage) -> None:
  """Times populations of some sizes."""
  batch = _TINY if stage.tiny else _BATCH
  config = compiled_steps.config("llama_60m", "float32", **_MODEL, **batch)
  for size in (2,) if stage.tiny else _SIZES:
    with stage.item(f"{size} members") as found:
      found |= _chosen(config, size)


def _chosen(config: configure.ConfigDict, size: int) -> dict[str, Any]:
  """What a sweep would choose for runs of so many seeds, and by what."""
  with tempfile.TemporaryDirectory() as folder:
    out = Path(folder)
    runs = [
      Run(configure.override(config, {"seed": seed}), out / f"{seed}")
      for seed in range(size)
    ]
    choice.members(runs, size, out)
    found = dict(choices.read(out, build.program_key(config)) or {})
  if "together_s" in found:
    found["alone_over_together"] = found["alone_s"] / found["together_s"]
  return found
