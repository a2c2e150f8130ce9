"""Tiles that were timed on a device, where those that are computed are slower.

A kernel asks for its tile by `choose`, with the one that `tiles` computes.
`python -m kernels_pallas.tune` times others and keeps the fastest beside the
proofs of the device's kind (`device_file`). As a proof it holds for the source
and the jax that it was tuned with: a stale one is not used, and a warning says
so.
"""

import contextlib
import contextvars
import dataclasses
import functools
import importlib
import itertools
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from kernels_pallas import OPS, device_file, programs, proved

# Numbers by name; a flag is 0 or 1.
Tile = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Ask:
  """What a kernel asks for while it is traced.

  Attributes:
    kernel: "op/candidate pass", as in "rms_norm/mosaic_gpu forward".
    about: what the choice may depend on, as in "4096 bfloat16".
    default: the tile that `tiles` computes.
    allowed: of each number of a tile the values that the kernel can take.
    tried: of each number those that a search tries.
  """

  kernel: str
  about: str
  default: Tile
  allowed: Mapping[str, Container[int]]
  tried: Mapping[str, Sequence[int]]

  @property
  def key(self) -> str:
    """What a choice is kept under."""
    return f"{self.kernel} {self.about}"

  @property
  def candidate(self) -> str:
    """The op and the candidate."""
    return self.kernel.partition(" ")[0]

  def options(self) -> list[Tile]:
    """The tiles to try, the default first."""
    names = [*self.tried]
    found = [
      dict(zip(names, values, strict=True))
      for values in itertools.product(*self.tried.values())
    ]
    default = dict(self.default)
    return [default, *(tile for tile in found if tile != default)]

  def problem(self, tile: Any) -> str:
    """What is wrong with a tile, with key, value and what is allowed; or ""."""
    if not isinstance(tile, Mapping) or {*tile} != {*self.default}:
      return f"{tile!r}; needed: {', '.join(self.default)}"
    for name, value in tile.items():
      if type(value) is not int or value not in self.allowed[name]:
        return f"{name}={value!r}; allowed: {_shown(self.allowed[name])}"
    return ""


def _shown(allowed: Any) -> str:
  if isinstance(allowed, range):
    step = f" in steps of {allowed.step}" if allowed.step > 1 else ""
    return f"{allowed[0]} to {allowed[-1]}{step}"
  return ", ".join(map(str, allowed))


_ASKED: contextvars.ContextVar[dict[str, Ask] | None] = contextvars.ContextVar(
  "asked", default=None
)
_TRIED: contextvars.ContextVar[Mapping[str, Tile] | None] = (
  contextvars.ContextVar("tried", default=None)
)


@contextlib.contextmanager
def recording() -> Iterator[dict[str, Ask]]:
  """Notes what kernels ask for that are traced in the block, by key."""
  asked: dict[str, Ask] = {}
  token = _ASKED.set(asked)
  try:
    yield asked
  finally:
    _ASKED.reset(token)


@contextlib.contextmanager
def trying(ask: Ask, tile: Tile) -> Iterator[None]:
  """What is traced anew in the block gets this tile where it asks so.

  Raises:
    ValueError: the kernel cannot take it; names the number and what is allowed.
  """
  if problem := ask.problem(tile):
    raise ValueError(f"{ask.key}: {problem}.")
  token = _TRIED.set({**(_TRIED.get() or {}), ask.key: tile})
  try:
    yield
  finally:
    _TRIED.reset(token)


def choose(ask: Ask) -> Tile:
  """The tile that is tried, else the one that was tuned, else the default."""
  asked = _ASKED.get()
  if asked is not None:
    asked[ask.key] = ask
  tried = (_TRIED.get() or {}).get(ask.key)
  if tried is not None:
    return tried
  kind = programs.target().device_kind
  tile = _valid(kind, ask.candidate).get(ask.key)
  if tile is None:
    return ask.default
  if problem := ask.problem(tile):
    warnings.warn(
      f"{device_file.path(kind).name}: {ask.key}: {problem}. The tile that is"
      " computed is used.",
      stacklevel=2,
    )
    return ask.default
  return tile


def _valid(kind: str, candidate: str) -> Mapping[str, Any]:
  """Tiles of a candidate by key; none where they are stale."""
  known = device_file.read(kind, device_file.TILES)
  file = device_file.path(kind).name
  if known is None:
    _warn(f"{file} is damaged: its tiles are not used.")
    return {}
  entry = known.get(candidate)
  if entry is None:
    return {}
  chosen = entry.get("choices") if isinstance(entry, Mapping) else None
  if not isinstance(chosen, Mapping):
    _warn(f"{file}: the tiles of {candidate} are damaged, and not used.")
    return {}
  now = proved.of(_function(candidate))
  old = [name for name, value in now.items() if entry.get(name) != value]
  if old:
    _warn(
      f"{file}: the tiles of {candidate} are of another {' and '.join(old)},"
      " and not used; python -m kernels_pallas.tune on such a device renews"
      " them."
    )
    return {}
  return chosen


@functools.cache
def _warn(text: str) -> None:
  """Once per process: every trace asks."""
  warnings.warn(text, stacklevel=4)


def _function(candidate: str) -> Any:
  op, _, name = candidate.partition("/")
  its = importlib.import_module(f"{OPS[op]}.api").OP.candidates
  return next(each.function for each in its if each.name == name)


def keep(
  kind: str, candidate: str, key: str, tile: Tile | None, date: str
) -> None:
  """Writes the tile of a key beside those of others.

  Args:
    kind: of the device, as it names itself.
    candidate: "op/candidate".
    key: see `Ask.key`.
    tile: None where the computed one is as fast: nothing is left of the key.
    date: ISO.

  Raises:
    OSError: it cannot be written.
  """
  known = device_file.read(kind, device_file.TILES) or {}
  if tile is None and candidate not in known:
    return
  before = _valid(kind, candidate) if candidate in known else {}
  choices = {k: v for k, v in before.items() if k != key}
  if tile is not None:
    choices[key] = dict(tile)
  others = {k: v for k, v in known.items() if k != candidate}
  entry = {
    **proved.of(_function(candidate)),
    "date": date,
    "choices": choices,
  }
  device_file.write(
    kind, device_file.TILES, {**others, candidate: entry} if choices else others
  )
