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
    f"gradient/layers/0/kernel/{name}"
    for name in ("mean", "variance", "rms", "max")
  }
  np.testing.assert_allclose(values["gradient/layers/0/kernel/mean"], -0.5)
  np.testing.assert_allclose(values["gradient/layers/0/kernel/variance"], 12.25)
  np.testing.assert_allclose(
    values["gradient/layers/0/kernel/rms"], np.sqrt(12.5), rtol=1e-6
  )
  np.testing.assert_allclose(values["gradient/layers/0/kernel/max"], 4.0)


def test_no_pattern_measures_nothing():
  assert probes.statistics("gradient", TREE, ()) == {}
  assert probes.norms_by_depth("gradient_norm", TREE, ()) == {}
  assert probes.norm_parameters(TREE, (), ["head/kernel"]) == {}
  assert probes.spectrum({"kernel": jnp.eye(2)[None]}, ()) == {}


def test_norms_by_depth_join_a_layers_leaves():
  tree = {
    "layers": {
      "0": {"a": {"kernel": jnp.asarray([3.0])}, "b": jnp.asarray([[4.0]])},
      "10": {"kernel": jnp.asarray([5.0, 12.0])},
    },
    "head": {"kernel": jnp.full(4, 2.0), "bias": jnp.asarray([3.0])},
    "w": jnp.asarray(-1.0),
  }
  values = probes.norms_by_depth("gradient_norm", tree, ("gradient_norm",))
  assert {name: float(value) for name, value in values.items()} == {
    "gradient_norm/layers/0": 5.0,
    "gradient_norm/layers/10": 13.0,
    "gradient_norm/head": 5.0,
    "gradient_norm/w": 1.0,
  }
  one = probes.norms_by_depth("gradient_norm", tree, (r"layers/0$",))
  assert set(one) == {"gradient_norm/layers/0"}


def test_weight_norms_of_what_matches():
  values = probes.weight_norms(TREE, ("weight_norm/layers",))
  assert set(values) == {"weight_norm/layers/0/kernel"}
  np.testing.assert_allclose(values["weight_norm/layers/0/kernel"], 5.0)


def test_norm_parameters_are_those_of_norms():
  params = {
    "final_norm": {"scale": jnp.asarray([-1.0, 3.0])},
    "attention_input_norm": {"alpha": jnp.asarray(0.5)},
    "query": {"kernel": jnp.ones((2, 2))},
    "unnormed": {"scale": jnp.ones(2)},
  }
  paths = {"final_norm/scale", "attention_input_norm/alpha"}
  values = probes.norm_parameters(params, ("scale/",), paths)
  by_name = {name: float(value) for name, value in values.items()}
  assert by_name == {
    "scale/final_norm/scale/mean": 1.0,
    "scale/final_norm/scale/rms": pytest.approx(np.sqrt(5)),
    "scale/final_norm/scale/min": -1.0,
    "scale/final_norm/scale/max": 3.0,
    **{
      f"scale/attention_input_norm/alpha/{name}": 0.5
      for name in ("mean", "rms", "min", "max")
    },
  }


def test_spectrum_of_known_singular_values():
  """Entropy, by hand: of 3/4 and 1/4, and of n equal values log n."""
  rng = np.random.default_rng(0)
  left = np.linalg.qr(rng.normal(size=(5, 5)))[0][:, :2]
  right = np.linalg.qr(rng.normal(size=(3, 3)))[0][:, :2]
  # Small: its squares are below the least float32.
  known = 1e-25 * (left * [3.0, 1.0]) @ right.T
  matrices = {
    "known": jnp.asarray(known, jnp.float32)[None],
    "equal": jnp.stack([jnp.eye(4), 3 * jnp.eye(4)]),
    "zero": jnp.zeros((1, 2, 3)),
  }
  values = probes.spectrum(matrices, ("spectrum/",))
  effective = np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
  expected = {
    "known": (3e-25, 10 / 9, effective),
    "equal": (2.0, 4.0, 4.0),
    "zero": (0.0, 0.0, 0.0),
  }
  for path, numbers in expected.items():
    names = ("largest", "stable_rank", "effective_rank")
    for name, number in zip(names, numbers, strict=True):
      # Singular values are within a few 15 u of the largest; the third,
      # truly 0, then adds to the entropy -p log p < 17 p for p = 15 u.
      np.testing.assert_allclose(
        values[f"spectrum/{path}/{name}"], number, rtol=17 * 15 * 2**-24
      )
  assert set(probes.spectrum(matrices, ("equal",))) == {
    f"spectrum/equal/{name}"
    for name in ("largest", "stable_rank", "effective_rank")
  }


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
