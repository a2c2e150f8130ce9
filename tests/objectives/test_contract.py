"""What every objective promises, each run over the whole table."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import configure, errors, objectives
from normjax.nn.output import Output

SIZE = 6


def _batch(targets):
  """An output and a batch of six examples; the third is padding."""
  generator = np.random.default_rng(0)
  labels = {
    "classes": generator.integers(0, 5, size=SIZE),
    "values": generator.normal(size=(SIZE, 5)),
  }[targets]
  weight = np.array([1, 1, 0, 1, 0.5, 1], np.float32)
  logits = 3 * generator.normal(size=(SIZE, 5))
  return jnp.asarray(logits, jnp.float32), {
    "targets": jnp.asarray(labels, None if targets == "classes" else "float32"),
    "weight": jnp.asarray(weight),
  }


@pytest.mark.parametrize("name", objectives.names())
class TestObjective:
  def test_it_gives_what_it_declares(self, name):
    made = objectives.make(name)
    assert made.name == name
    logits, batch = _batch(made.targets)
    sums = made.sums(Output(logits), batch)
    assert {*sums} == {"objective", "weight", "loss", *made.means}
    for value in sums.values():
      assert (value.shape, value.dtype) == ((), jnp.float32)
    assert float(sums["weight"]) == 4.5
    for metric in made.metrics:
      assert metric.of in made.means

  def test_the_split_does_not_matter(self, name):
    made = objectives.make(name)
    logits, batch = _batch(made.targets)
    whole = made.sums(Output(logits), batch)
    parts = [
      made.sums(
        Output(logits[part]), {key: value[part] for key, value in batch.items()}
      )
      for part in (slice(0, 2), slice(2, 4), slice(4, SIZE))
    ]
    for key, value in whole.items():
      # Six float32 terms in another order.
      np.testing.assert_allclose(
        sum(float(part[key]) for part in parts), value, rtol=1e-6
      )

  def test_padding_counts_for_nothing(self, name):
    made = objectives.make(name)
    logits, batch = _batch(made.targets)
    spoiled = logits.at[2].set(1e4)
    want, got = (made.sums(Output(z), batch) for z in (logits, spoiled))
    for key, value in want.items():
      np.testing.assert_array_equal(got[key], value, err_msg=key)

  def test_its_gradient_is_finite_and_none_of_padding(self, name):
    made = objectives.make(name)
    logits, batch = _batch(made.targets)
    gradient = jax.grad(lambda z: made.sums(Output(z), batch)["objective"])(
      logits
    )
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(-1) > 0).tolist() == [1, 1, 0, 1, 1, 1]

  def test_logits_of_another_shape_are_refused(self, name):
    made = objectives.make(name)
    logits, batch = _batch(made.targets)
    message = rf"objective.name='{name}': targets of .* the model gives \(6, 1,"
    with pytest.raises(errors.UserError, match=message):
      made.sums(Output(logits[:, None]), batch)

  def test_config_is_the_factory_s_options(self, name):
    block = configure.to_dict(configure.component("objective", name))
    parameters = inspect.signature(objectives.get(name)).parameters
    own = {
      key: parameter.default
      for key, parameter in parameters.items()
      if key not in ("label_smoothing", "z_loss")  # They stand in `train`.
    }
    assert block == {"name": name, **own}


def test_every_kind_of_targets_has_a_default():
  for targets, name in objectives.DEFAULTS.items():
    assert objectives.make(name).targets == targets
