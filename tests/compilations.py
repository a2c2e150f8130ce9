"""A pool of compiled programs, kept between runs of the tests.

A developer's second run compiles only what changed. JAX's key of a program is
its code, its compiler options and XLA's version; the pool's folder adds what
it runs on. JAX writes entries in place, so that two processes must not share a
folder: a process works on links to the pool's entries in a folder of its own,
and moves its new ones to the pool at its end. With CI set there is no pool.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

# Larger than what one state of the checkout needs, about 0.1 GB.
MOST_BYTES = 2**28


def pool() -> Path | None:
  """The folder of programs for this machine, or None where there is none."""
  if os.environ.get("CI"):
    return None
  home = os.environ.get("NORMJAX_CACHE") or Path(
    os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "normjax"
  )
  parts = [
    *(metadata.version(name) for name in ("jax", "jaxlib")),
    platform.machine(),
    # XLA's CPU programs are laid out for the cores that they may use.
    str(len(os.sched_getaffinity(0))),
    _processor(),
  ]
  key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
  return Path(home, "tests-xla", key)


def _processor() -> str:
  """Names and instruction sets of the processors, where Linux tells."""
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return platform.processor()
  kinds = ("model name", "flags", "Features", "CPU part")
  return "\n".join(sorted({x for x in lines if x.startswith(kinds)}))


@contextlib.contextmanager
def kept(folder: Path | None):
  """Keeps what this process compiles; with None only while it lives."""
  import jax  # Late: a command's own tests start without it.
  from jax.experimental.compilation_cache import compilation_cache

  with tempfile.TemporaryDirectory(prefix="normjax-xla-") as scratch:
    own = Path(scratch)
    if folder is not None:
      folder.mkdir(parents=True, exist_ok=True)
      for entry in folder.iterdir():
        # Another process may prune, or the link may cross file systems.
        with contextlib.suppress(FileNotFoundError):
          _link(entry, own / entry.name)
    known = {entry.name for entry in own.iterdir()}
    least_s = 0.3 if folder is None else 0.0
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least_s)
    compilation_cache.reset_cache()  # What was compiled at collection.
    compilation_cache.set_cache_dir(scratch)
    yield
    if folder is not None:
      for entry in own.iterdir():
        if entry.name not in known:
          _publish(entry, folder)
      _prune(folder)


def _link(source: Path, target: Path) -> None:
  try:
    os.link(source, target)
  except FileNotFoundError:
    raise
  except OSError:
    shutil.copyfile(source, target)


def _publish(entry: Path, folder: Path) -> None:
  """Whole, or not at all; the scratch folder may be on another disk."""
  partial = folder / f".{os.getpid()}-{entry.name}"
  shutil.copyfile(entry, partial)
  partial.replace(folder / entry.name)


def _prune(folder: Path) -> None:
  """Removes the oldest half once there is more than MOST_BYTES."""
  entries = []
  for entry in folder.iterdir():
    with contextlib.suppress(FileNotFoundError):
      status = entry.stat()
      entries.append((status.st_mtime, status.st_size, entry))
  excess = sum(size for _, size, _ in entries) - MOST_BYTES
  if excess <= 0:
    return
  excess += MOST_BYTES // 2
  for _, size, entry in sorted(entries):
    if excess <= 0:
      break
    entry.unlink(missing_ok=True)
    excess -= size
