"""Eight virtual CPU devices, and light compilation, for every test."""

import gc
import os

import pytest

from tests import compilations, scheduling, slow

# XLA's older emitters of loops: a third of the time that its newer ones, which
# make an MLIR context per fusion, take to compile.
_LIGHT_FLAGS = (
  "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)
_FLAGS = ("--xla_force_host_platform_device_count=8",)


def pytest_addoption(parser):
  """Adds `--optimized`: XLA reads its flags once per process."""
  parser.addoption(
    "--optimized",
    action="store_true",
    help="only the tests marked `optimized`, compiled as users compile; without"
    " it only the others",
  )


def pytest_configure(config):
  """Before jax is imported."""
  flags = _FLAGS if config.getoption("optimized") else _FLAGS + _LIGHT_FLAGS
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["XLA_FLAGS"] = " ".join(
    filter(None, (os.environ.get("XLA_FLAGS"), *flags))
  )


@pytest.fixture(scope="session", autouse=True)
def kept_compilations():
  """What a developer's last run compiled is not compiled again."""
  with compilations.kept(compilations.pool()):
    yield


@pytest.fixture(scope="session", autouse=True)
def light_compilation(pytestconfig):
  """Without LLVM's optimizations: a third less time, the same arithmetic.

  Not of tests marked `optimized`: of what users see of roundings. For the
  session, so that what fixtures of modules compile is light, too.
  """
  import jax  # Late: XLA reads its flags once.

  light = not pytestconfig.getoption("optimized")
  jax.config.update("jax_disable_most_optimizations", light)


@pytest.fixture(autouse=True)
def parts_beside():
  """The folder that one test's command was given is not searched in the next.

  For the life of a process it is that of its last command.
  """
  from normjax import beside  # Late: after pytest_configure.

  place = beside._place
  yield
  beside._place = place


@pytest.fixture(scope="session", autouse=True)
def rare_garbage_collection():
  """Every 50000 new objects: modules and tests stay to the end in any case.

  A tenth of the time else.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 10, 10)


@pytest.hookimpl(optionalhook=True)  # Without xdist there are no workers.
def pytest_xdist_make_scheduler(config, log):
  """Of `--dist loadfile`: a file stays on one worker, but for the contracts."""
  if config.option.dist != "loadfile":
    return None
  return scheduling.ByFile(config, log)


def pytest_ignore_collect(collection_path, config):
  """With `--optimized` only files with such a test: collecting takes long."""
  if config.getoption("optimized") and collection_path.suffix == ".py":
    return True if not _names_the_marker(collection_path) else None
  return None


def _names_the_marker(path):
  return "pytest.mark.optimized" in path.read_text()


def pytest_collection_modifyitems(config, items):
  """Takes the tests of one way to compile."""
  optimized = config.getoption("optimized")
  chosen = {True: [], False: []}
  for item in items:
    if slow.is_left_out(item.nodeid):
      item.add_marker(pytest.mark.slow)
    marked = item.get_closest_marker("optimized") is not None
    chosen[marked == optimized].append(item)
    if marked and not _names_the_marker(item.path):
      raise pytest.UsageError(
        f"{item.nodeid} is marked in another file; `--optimized` misses it"
      )
  config.hook.pytest_deselected(items=chosen[False])
  items[:] = chosen[True]
