"""The cores and accelerators of this machine, told without jax."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path


def usable_cores() -> list[int]:
  """The cores that this process may use, as they are numbered."""
  if hasattr(os, "sched_getaffinity"):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def core_groups(cores: Sequence[int], num_groups: int) -> list[list[int]]:
  """The cores in `num_groups` groups of nearly equal size.

  More groups than cores share them in turn.
  """
  if num_groups >= len(cores):
    return [[cores[i % len(cores)]] for i in range(num_groups)]
  bounds = [i * len(cores) // num_groups for i in range(num_groups + 1)]
  return [list(cores[a:b]) for a, b in itertools.pairwise(bounds)]


def has_accelerator() -> bool:
  """Whether jax would use one, told from device files: jax is not imported."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms:
    return platforms.split(",")[0] != "cpu"
  patterns = ("nvidia[0-9]*", "accel[0-9]*", "accel/accel*", "kfd")
  return any(any(Path("/dev").glob(pattern)) for pattern in patterns)
