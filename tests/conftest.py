"""Eight virtual CPU devices, and light compilation, for every test."""

import os

import pytest

from tests import compilations

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()


@pytest.fixture(scope="session", autouse=True)
def kept_compilations():
  """What a developer's last run compiled is not compiled again."""
  with compilations.kept(compilations.pool()):
    yield


@pytest.fixture(autouse=True)
def light_compilation(request):
  """Without LLVM's optimizations: a third less time, the same arithmetic.

  Not in a test marked `optimized`: where shardings are looked at, which are
  chosen by optimizations too, and what users see of roundings.
  """
  if request.node.get_closest_marker("optimized"):
    yield
    return
  import jax  # Late: a command's own tests start without it.

  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)


def pytest_collection_modifyitems(items):
  """With `--dist loadgroup`, a file stays on one worker, but for the contracts.

  They are most of the time: each method of theirs may go elsewhere, with what
  it has compiled.
  """
  for item in items:
    case = getattr(item, "callspec", None) and item.callspec.params.get("case")
    name = f"{item.path}:{getattr(case, 'name', '')}"
    item.add_marker(pytest.mark.xdist_group(name))
