"""Which runs train side by side, as one population, and where each stands.

What a member computes depends, in its rounding, on the size of its
population, on its place there, and on whether the batches are those of all.
So `run.json` says these three, and a run that goes on from a checkpoint gets
them again: places of members that are over stay empty. Where it cannot, as
after memory ran out, it moves, which its record notes as a problem.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from normjax import build, configure, errors, procedures
from normjax.train import checkpoint, lane
from normjax.train import program as program_lib
from normjax.train.population import together as together_lib
from normjax.train.request import Run

ALL, OWN = "of all", "own"


class Chunk(NamedTuple):
  """Runs that train together.

  Attributes:
    runs: at most `size`; where that is 1, any number, each by itself.
    size: of the population.
    places: of each run, below the size.
    same_batches: whether all train on the same batches.
  """

  runs: Sequence[Run]
  size: int = 1
  places: Sequence[int] = ()
  same_batches: bool = False

  def facts(self, n: int) -> Mapping[str, Any]:
    """What `run.json` says of run number `n`."""
    if self.size == 1:
      return lane.ALONE
    return {
      "size": self.size,
      "place": self.places[n],
      "batches": ALL if self.same_batches else OWN,
    }


class _Kind(NamedTuple):
  """What members of one population have in common."""

  size: int  # 0: it is new.
  seed: int | None  # Where all train on the same batches: of these.
  scalars: tuple[Any, ...]  # Those that decide; see `shared`.


def split(
  runs: Sequence[Run],
  most: int,
  limit_bytes: Callable[[], int | None] = together_lib.limit_bytes,
) -> list[Chunk]:
  """The chunks of runs of one program, which are to train now.

  Args:
    runs: none of them is over.
    most: members of a population.
    limit_bytes: the memory of a device.

  Raises:
    UserError: a population on several devices.
  """
  if not runs:
    return []
  if most == 1 or is_alone(runs[0].config):
    return [Chunk(runs)]
  _check_devices(runs[0])
  together = together_lib.get(runs[0].config)
  alone: list[Run] = []
  fresh: dict[_Kind, list[Run]] = {}
  begun: dict[_Kind, list[tuple[int, Run]]] = {}
  for run in runs:
    scalars = build.scalars(run.config)
    deciding = tuple(scalars[n] for n in sorted(together.shared.scalars))
    found = _recorded(run)
    if found == lane.ALONE:
      alone.append(run)
    elif found and found["size"] <= most:
      seed = run.config.seed if found["batches"] == ALL else None
      kind = _Kind(found["size"], seed, deciding)
      begun.setdefault(kind, []).append((found["place"], run))
    else:
      kind = _Kind(0, None, deciding)
      fresh.setdefault(kind, []).append(run)
  # One after the other: what is alone may be so because memory is short.
  chunks = [Chunk([run]) for run in alone]
  for kind, placed in begun.items():
    chunks += _with_places(kind, placed)
  for group in fresh.values():
    chunks += new(together, group, most, limit_bytes())
  return chunks


def is_alone(config: configure.ConfigDict) -> bool:
  """Whether each run is by itself, however many a population may have.

  So it is where a procedure takes the gradients: its steps are traced for one
  run.
  """
  return procedures.learns(config)


def _check_devices(run: Run) -> None:
  """Raises UserError where a member would not be on one device."""
  devices = program_lib.traced(run.config).layout.mesh.size
  if devices > 1:
    axes = (f"train.layout.{name}" for name in ("data", "fsdp", "tensor"))
    split = [a for a in axes if configure.optional(run.config, a) > 1]
    keys = " and ".join(f"{key}=1" for key in ["train.num_devices", *split])
    raise errors.UserError(
      f"population: a run takes {devices} devices; members of a population have"
      f" one. Set {keys}, or population='off'."
    )


def _recorded(run: Run) -> Mapping[str, Any] | None:
  """Where a run stood that has a checkpoint; None: nowhere."""
  if not checkpoint.steps(run.directory):
    return None
  record = (run.files.read_run().value or {}).get("provenance", {})
  told = record.get("population", {})
  # Earlier versions do not say it: they trained each run by itself.
  return told if _is_place(told) else lane.ALONE


def _is_place(told: Any) -> bool:
  """Whether what a record says is a place in a population."""
  if not isinstance(told, Mapping) or told.keys() != {
    "size",
    "place",
    "batches",
  }:
    return False
  size, place, batches = told["size"], told["place"], told["batches"]
  is_there = type(size) is int and type(place) is int and 0 <= place < size
  return is_there and size > 1 and batches in (ALL, OWN)


def _with_places(kind: _Kind, placed: Iterable[tuple[int, Run]]) -> list[Chunk]:
  """Populations in which each run has the place that it had."""
  tables: list[dict[int, Run]] = []
  for place, run in placed:
    table = next((each for each in tables if place not in each), None)
    if table is None:
      tables.append(table := {})
    table[place] = run
  return [
    Chunk(list(table.values()), kind.size, list(table), kind.seed is not None)
    for table in tables
  ]


def new(
  together: together_lib.Together,
  runs: Sequence[Run],
  most: int,
  limit_bytes: int | None,
) -> list[Chunk]:
  """Populations of runs that stood nowhere, as large as fits."""
  chunks = []
  while runs:
    size = min(most, len(runs))
    same_batches = len({run.config.seed for run in runs[:size]}) == 1
    size = together_lib.size_that_fits(
      together,
      size,
      limit_bytes,
      same_batches=same_batches,
      same_evaluation=together_lib.evaluates_alike(runs[0].config),
    )
    chunk, runs = runs[:size], runs[size:]
    chunks.append(
      Chunk(chunk, size, range(size), same_batches)
      if size > 1
      else Chunk(chunk)
    )
  return chunks
