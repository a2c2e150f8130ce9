"""Members of a population beside each other, against one by one.

A small decoder, as sweeps have many of: the choice that a sweep makes by
`population="auto"`, with the times it is made by.
"""

import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from normjax import build, configure
from normjax.bench import compiled_steps
from normjax.bench.gpu.worker import Stage

_CHOICE = "normjax.train.choice"
_SIZES = (4, 16, 64)
_MODEL = {"model.size": "tiny", "train.num_devices": 1, "data.vocab_size": 256}
_BATCH = {"train.batch_size": 8, "data.length": 64}
_TINY = {"train.batch_size": 2, "data.length": 8}


def run(stage: Stage) -> None:
  """Times populations of some sizes; says so where runs train one by one."""
  if importlib.util.find_spec(_CHOICE) is None:
    with stage.item("populations") as found:
      found["skipped"] = f"{_CHOICE} is not here: runs train one by one"
    return
  batch = _TINY if stage.tiny else _BATCH
  config = compiled_steps.config("llama_60m", "float32", **_MODEL, **batch)
  for size in (2,) if stage.tiny else _SIZES:
    with stage.item(f"{size} members") as found:
      found |= _choice(config, size)


def _choice(config: configure.ConfigDict, size: int) -> dict[str, Any]:
  """What a sweep would choose for runs of so many seeds, and by what."""
  # By name, as long as a checkout may lack them.
  choice = importlib.import_module(_CHOICE)
  choices = importlib.import_module("normjax.record.choices")
  request = importlib.import_module("normjax.train.request")
  with tempfile.TemporaryDirectory() as folder:
    out = Path(folder)
    runs = [
      request.Run(configure.override(config, {"seed": seed}), out / f"{seed}")
      for seed in range(size)
    ]
    choice.members(runs, size, out)
    found = dict(choices.read(out, build.program_key(config)))
  if "together_s" in found:
    found["alone_over_together"] = found["alone_s"] / found["together_s"]
  return found
