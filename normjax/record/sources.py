"""A user's own code, known by its hash, and what is kept of it with a run.

    <out>/sources/<hash>-<name>    each content once, for all runs of a sweep

`run.json` names these files under `provenance.own`: the modules that the
config's own components are made of, the config file that the command was given,
and what its repository has not committed. A module counts where it is Python,
neither Python's nor an installed package's, and a component imports it by an
`import` statement, directly or through other modules that count.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from normjax import beside, configure
from normjax.imports import is_outside
from normjax.record import files as files_lib
from normjax.record import provenance
from normjax.record.directory import RunDirectory

_OURS = ("normjax", "kernels_pallas")
_INSTALLED = {"site-packages", "dist-packages"}
_MOST_BYTES = 1_000_000
_NUM_DIGITS = 12


class Snapshot(NamedTuple):
  """What a run keeps of code.

  Attributes:
    facts: of provenance, for `run.json`: "git", which names the file of its
      difference, and "own" where anything is the user's own.
    files: name to content, for the folder of sources.
  """

  facts: dict[str, Any]
  files: dict[str, bytes]


def keep(folder: Path, contents: Mapping[str, bytes]) -> None:
  """Writes kept code by name, where it is not there yet."""
  for name, content in contents.items():
    if not (folder / name).exists():
      files_lib.write_bytes(folder / name, content)


def read(folder: Path, name: str) -> str:
  """Kept code; "" where it is not there."""
  try:
    return (folder / name).read_text(errors="replace")
  except OSError:
    return ""


def components(config: configure.ConfigDict | dict[str, Any]) -> frozenset[str]:
  """The modules that a config names, as in "package.module:factory"."""
  texts = (
    text
    for _, value in configure.leaves(configure.to_dict(config))
    for text in (value if isinstance(value, list | tuple) else (value,))
  )
  return frozenset(
    text.partition(":")[0]
    for text in texts
    if isinstance(text, str) and is_outside(text)
  )


def modules(names: Iterable[str]) -> dict[str, Path]:
  """The modules that count, by name, and their files.

  Nothing is imported: `import` statements are read.

  Args:
    names: of the components' modules.
  """
  names = sorted(names)
  packages = {name.partition(".")[0] for name in names}
  found: dict[str, Path] = {}
  left = list(names)
  while left:
    for module, file in _files(left.pop(), packages):
      if module not in found:
        found[module] = file
        left += _imported(module, file)
  return dict(sorted(found.items()))


def digests(names: Iterable[str]) -> dict[str, str]:
  """Module to the hash of its file, as it is now; see `modules`.

  An installed package has one hash, of all that counts of it.
  """
  found = _read(names)
  return {
    name: digest(b"".join(content for _, content in files))
    for name, files in found.items()
  }


def _read(names: Iterable[str]) -> dict[str, list[tuple[str, bytes]]]:
  """Module, or installed package, to the names and contents of its files."""
  found: dict[str, list[tuple[str, bytes]]] = {}
  for module, file in modules(names).items():
    name = module.partition(".")[0] if _is_installed(file) else module
    found.setdefault(name, []).append((file.name, file.read_bytes()))
  return found


def _is_installed(file: Path) -> bool:
  return bool(_INSTALLED & {*file.parts})


def changed(noted: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
  """The modules whose code differs from that of a run.

  Args:
    noted: what `run.json` holds; one that says nothing differs in nothing.
    now: of the modules, as `digests` gives them.
  """
  own = noted.get("provenance", {}).get("own", {}).get("modules", {})
  was, now = _hashes(own), _hashes(now)
  if not was:
    return []
  return sorted(k for k in was.keys() | now.keys() if was.get(k) != now.get(k))


def changed_since(directory: RunDirectory, now: Mapping[str, str]) -> list[str]:
  """The modules whose code differs from that of what a run has left.

  A run that failed before its first checkpoint starts anew: nothing is left.

  Args:
    directory: of the run.
    now: as for `changed`.
  """
  noted = directory.read_run().value or {}
  modules = changed(noted, now)
  if not modules:
    return []
  left = directory.read_result().value or any(directory.checkpoints.glob("*"))
  return modules if left else []


def snapshot(
  config: configure.ConfigDict, git: Mapping[str, Any] | None
) -> Snapshot:
  """What a run keeps of the code that this process has imported.

  Args:
    config: of the run.
    git: of normjax, as `provenance.git` gives it.
  """
  files: dict[str, bytes] = {}

  def keep(name: str, content: bytes) -> str:
    kept = f"{digest(content)}-{name}"
    if len(content) > _MOST_BYTES:
      return f"{kept} (not kept: {len(content)} bytes)"
    files[kept] = content
    return kept

  def with_kept_diff(git: Mapping[str, Any], name: str) -> dict[str, Any]:
    git = dict(git)
    if diff := git.pop("diff"):
      git["diff_file"] = keep(f"{name}.diff", diff.encode())
    return git

  facts: dict[str, Any] = {}
  own: dict[str, Any] = {}
  if git is not None:
    facts["git"] = with_kept_diff(git, "normjax")
  if imported := _as_imported(components(config)):
    own["modules"] = {
      name: keep(*files[0]) if len(files) == 1 else _package(name, files)
      for name, files in imported.items()
    }
  if (file := beside.config_file()) is not None and file.is_file():
    own["config_file"] = keep(file.name, file.read_bytes())
    theirs = provenance.git(file.parent)
    if theirs is not None and theirs != git:
      own["git"] = with_kept_diff(theirs, file.parent.name)
  return Snapshot(facts | ({"own": own} if own else {}), files)


@functools.lru_cache
def _as_imported(
  names: frozenset[str],
) -> dict[str, list[tuple[str, bytes]]]:
  """What `_read` gave when this process first asked.

  A file that is edited later is not the code that runs here.
  """
  return _read(names)


def _package(name: str, files: Iterable[tuple[str, bytes]]) -> str:
  """An installed package: its hash and version; it can be installed again."""
  try:
    version = importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    version = "of no known version"
  content = b"".join(content for _, content in files)
  return f"{digest(content)}-{name} {version} (installed)"


def _files(name: str, packages: set[str]) -> Iterator[tuple[str, Path]]:
  """A module that counts and the packages around it: (full name, file).

  Args:
    name: full; what lies in no file gives nothing.
    packages: of the components; they count where they are installed.
  """
  top, *inner = name.split(".")
  if top in _OURS or top in sys.stdlib_module_names:
    return
  try:
    spec = importlib.util.find_spec(top)
  except (ImportError, ValueError):
    return
  if spec is None:
    return
  places = [Path(p) for p in spec.submodule_search_locations or ()]
  origin = Path(spec.origin) if spec.origin else None
  where = origin or next(iter(places), None)
  if where is None or (_INSTALLED & {*where.parts} and top not in packages):
    return
  if origin is not None and origin.suffix == ".py":
    yield top, origin
  full = top
  for part in inner:
    full += f".{part}"
    tries = [p / part / "__init__.py" for p in places]
    tries += [p / f"{part}.py" for p in places]
    places = [p / part for p in places]
    if (file := next((t for t in tries if t.is_file()), None)) is not None:
      yield full, file


def _imported(module: str, file: Path) -> Iterator[str]:
  """Full names of what a file's `import` statements may name."""
  try:
    tree = ast.parse(file.read_bytes())
  except (SyntaxError, ValueError):
    return  # Whoever imports it will say so.
  package = module if file.name == "__init__.py" else module.rpartition(".")[0]
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      above = package.split(".")[: len(package.split(".")) - node.level + 1]
      base = ".".join([*above, *filter(None, [node.module])])
      base = base if node.level else node.module or ""
      yield base
      yield from (f"{base}.{alias.name}" for alias in node.names)


def _hashes(modules: Mapping[str, str]) -> dict[str, str]:
  """Module to hash, of the names of kept files or of hashes alone."""
  return {name: str(kept).partition("-")[0] for name, kept in modules.items()}


def digest(content: bytes) -> str:
  """The hash by which content is known."""
  return hashlib.sha256(content).hexdigest()[:_NUM_DIGITS]
