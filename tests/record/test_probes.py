import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.record import probes

TREE = {
  "layers": {"0": {"kernel": jnp.asarray([[3.0, -4.0]])}},
  "head": {"kernel": jnp.asarray([1.0, 1.0])},
}


def test_statistics_of_what_matches():
  values = probes.statistics("gradient", TREE, (r"layers/\d+/kernel",))
  assert set(values) == {
    f"gradient/layers/0/kernel/{name}" for name in ("mean", "rms", "max")
  }
  np.testing.assert_allclose(values["gradient/layers/0/kernel/mean"], -0.5)
  np.testing.assert_allclose(
    values["gradient/layers/0/kernel/rms"], np.sqrt(12.5), rtol=1e-6
  )
  np.testing.assert_allclose(values["gradient/layers/0/kernel/max"], 4.0)


def test_no_pattern_measures_nothing():
  assert probes.statistics("gradient", TREE, ()) == {}


def test_effective_learning_rate_is_a_ratio_of_norms():
  updates = {
    "layers": {"0": {"kernel": jnp.asarray([[0.3, 0.4]])}},
    "head": {"kernel": jnp.zeros(2)},
  }
  values = probes.effective_learning_rate(updates, TREE, ("kernel",))
  np.testing.assert_allclose(
    values["effective_learning_rate/layers/0/kernel"], 0.1, rtol=1e-6
  )
  assert values["effective_learning_rate/head/kernel"] == 0.0


def test_a_parameter_of_zeros_gives_a_finite_rate():
  zero = {"w": jnp.zeros(3)}
  values = probes.effective_learning_rate(zero, zero, ("w",))
  assert values["effective_learning_rate/w"] == 0.0


def test_a_bad_pattern_is_named():
  with pytest.raises(errors.UserError, match="'\\[' is not a regular"):
    probes.check(("ok", "["))
