"""Members of a population beside each other, against one by one."""

import importlib.util

from normjax.bench.gpu.worker import Stage

_MODULE = "normjax.train.population"


def run(stage: Stage) -> None:
  """Measures nothing where runs train one by one, and says so."""
  with stage.item("populations") as found:
    if importlib.util.find_spec(_MODULE) is not None:
      raise NotImplementedError(f"{_MODULE} is here, and is not measured yet.")
    found["skipped"] = f"{_MODULE} is not here: runs train one by one"
