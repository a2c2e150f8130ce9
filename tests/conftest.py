"""Eight virtual CPU devices for every test, set before jax is imported."""

import os

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()


def pytest_collection_modifyitems(items):
  """With `--dist loadgroup`, a file stays on one worker, but for the contracts.

  They are most of the time: each method of theirs may go elsewhere, with what
  it has compiled.
  """
  for item in items:
    case = getattr(item, "callspec", None) and item.callspec.params.get("case")
    name = f"{item.path}:{getattr(case, 'name', '')}"
    item.add_marker(pytest.mark.xdist_group(name))
