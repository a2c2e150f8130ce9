"""One stage, in a process of its own: a line of JSON per result, at once."""

import contextlib
import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from normjax.registry import Registry

_REGISTRY = Registry(
  "stage",
  {
    "device": "normjax.bench.gpu.device:run",
    "steps": "normjax.bench.gpu.steps:run",
    "optimizers": "normjax.bench.gpu.optimizers:run",
    "populations": "normjax.bench.gpu.populations:run",
    "deterministic": "normjax.bench.gpu.deterministic:run",
  },
)


@dataclasses.dataclass
class Stage:
  """What a stage is given.

  Attributes:
    facts: of the device, see `device`.
    tiny: whether sizes are small.
    write: a result, as one mapping.
    failed: how many items have.
  """

  facts: Mapping[str, Any]
  tiny: bool
  write: Callable[[Mapping[str, Any]], None]
  failed: int = 0

  @contextlib.contextmanager
  def item(self, name: str) -> Iterator[dict[str, Any]]:
    """A result that is written when the block ends, its error too."""
    found: dict[str, Any] = {"item": name}
    try:
      yield found
    # Whatever a compiler or a device raises: the next item is measured.
    except Exception as error:
      self.failed += 1
      traceback.print_exc()
      found["error"] = f"{type(error).__name__}: {str(error)[:300]}"
    self.write(found)

  def of_copy(self, num_bytes: float, seconds: float) -> float | None:
    """Per cent of the speed that a copy has here."""
    speed = self.facts.get("copy_gb_per_s")
    return speed and 100 * num_bytes / 1e9 / seconds / speed


def main(name: str, given: str) -> int:
  """Runs a stage; 1 where an item failed."""
  options = json.loads(given)

  def write(found: Mapping[str, Any]) -> None:
    with Path(options["out"]).open("a") as file:
      file.write(json.dumps(found) + "\n")

  stage = Stage(options["facts"], options["tiny"], write)
  _REGISTRY.get(name)(stage)
  return int(stage.failed > 0)


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
