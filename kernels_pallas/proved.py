"""Which kernels a device has proved: `proved` in `results/<device>.json`.

A Mosaic kernel that compiles, and is right when interpreted, may still be wrong
on a chip. It is a default only where its contract has passed on one of the kind
at the source and with the jax that are here: a change of what the kernel is
made of, or of what compiles it (some kernels are jax's own), takes the proof
away, and `python -m kernels_pallas.prove` on such a device gives it back.
"""

import ast
import functools
import hashlib
import inspect
import json
import textwrap
from collections.abc import (
  Callable,
  Collection,
  Iterator,
  Mapping,
  Sequence,
)
from pathlib import Path
from typing import Any

import jax

from kernels_pallas import device_file

_ROOT = Path(__file__).parent
# They choose; no kernel is made of them.
_AROUND = {
  _ROOT / f"{name}.py"
  for name in ("device_file", "dispatch", "programs", "proved", "tuned")
}


def missing(
  op: str, name: str, function: Callable[..., Any], device_kind: str
) -> str | None:
  """Why a kernel is no default on such a device, or None where it is proved.

  Args:
    op: its name.
    name: of the candidate.
    function: of the candidate.
    device_kind: as the device names itself.
  """
  proofs = device_file.read(device_kind, device_file.PROVED)
  if proofs is None:
    file = device_file.path(device_kind)
    return f"{file.name} is damaged; ask by impl={name!r}"
  proof = proofs.get(f"{op}/{name}")
  if proof is None:
    return f"its contract has not passed on {device_kind}; ask by impl={name!r}"
  source = proof.get("source") if isinstance(proof, Mapping) else None
  if source != digest(function):
    return (
      f"it has changed since its contract passed on {device_kind}; ask by"
      f" impl={name!r}"
    )
  if proof.get("jax") != jax.__version__:
    return (
      f"its contract passed on {device_kind} with jax {proof.get('jax')}, this"
      f" is {jax.__version__}; ask by impl={name!r}"
    )
  if proof.get("tiles") != tiles_of(op, name, device_kind):
    return (
      f"other tiles were tuned since its contract passed on {device_kind}; ask"
      f" by impl={name!r}"
    )
  return None


def tiles_of(op: str, name: str, device_kind: str) -> str | None:
  """Of the tiles that a candidate runs with there; None: those of `tiles`."""
  tuned = device_file.read(device_kind, device_file.TILES) or {}
  if f"{op}/{name}" not in tuned:
    return None
  text = json.dumps(tuned[f"{op}/{name}"], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def of(function: Callable[..., Any]) -> dict[str, str]:
  """What a proof of a candidate's function holds for; see `missing`."""
  return {"source": digest(function), "jax": jax.__version__}


def keep(
  device_kind: str,
  proofs: Mapping[str, Mapping[str, str]],
  failed: Collection[str] = (),
) -> Path:
  """Writes proofs beside what else is known of devices of a kind.

  Args:
    device_kind: as the device names itself.
    proofs: "op/candidate" to what `of` says of it, and to what a reader may
      want to know.
    failed: "op/candidate" of which the file shall say nothing any more.

  Returns:
    The file. It is whole or as it was; a damaged one is put aside.

  Raises:
    OSError: it cannot be written.
  """
  before = device_file.read(device_kind, device_file.PROVED)
  file = device_file.path(device_kind)
  if not proofs and not file.exists():
    return file
  known = {**(before or {}), **proofs}
  kept = {k: v for k, v in known.items() if k not in failed}
  return device_file.write(device_kind, device_file.PROVED, kept)


@functools.cache
def digest(function: Callable[..., Any]) -> str:
  """Of the source that a candidate is made of."""
  content = hashlib.sha256()
  for file in sources(function):
    content.update(f"{file.parent.name}/{file.name}\0".encode())
    content.update(file.read_bytes())
  return content.hexdigest()


def sources(function: Callable[..., Any]) -> list[Path]:
  """Files of what a candidate's function imports, and of what those import.

  Its own file is among them if it imports nothing itself: what chooses between
  back ends is no part of one.
  """
  function = inspect.unwrap(function)
  tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
  files = set(_imported(tree)) or {Path(inspect.getfile(function))}
  waiting = [*files]
  while waiting:
    found = set(_imported(ast.parse(waiting.pop().read_bytes()))) - files
    files |= found
    waiting += found
  return sorted(files)


def _imported(tree: ast.AST) -> Iterator[Path]:
  """Files of this package that a syntax tree imports."""
  for node in ast.walk(tree):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
      first, *rest = name.split(".")
      file = _file(rest) if first == _ROOT.name else None
      if file is not None and file not in _AROUND:
        yield file


def _file(parts: Sequence[str]) -> Path | None:
  """Of a module, or of the one that has the last part as a name."""
  for path in (parts, parts[:-1]):
    for file in (
      _ROOT.joinpath(*path).with_suffix(".py"),
      _ROOT.joinpath(*path, "__init__.py"),
    ):
      if file.exists():
        return file
  return None
