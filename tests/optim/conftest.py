"""The contract compiles some thirty programs an optimizer."""

import jax
import pytest


@pytest.fixture(autouse=True)
def light_compilation(request):
  """Without LLVM's optimizations: a third less time, the same arithmetic.

  Not where shardings are looked at: they are chosen by optimizations too.
  """
  if "devices" in request.node.name:
    yield
    return
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
