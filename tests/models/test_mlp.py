import jax
import numpy as np
import pytest

from normjax import errors, models
from normjax.nn import variables as nn_variables


def test_equals_a_transcription():
  model = models.make(
    "mlp", input_shape=(5,), num_layers=2, hidden_dim=7, norm="identity"
  )
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64),
    nn_variables.split(model)[1]["params"],
  )
  x = np.random.default_rng(0).normal(size=(4, 5))
  h = x
  for index in ("0", "1"):
    layer = params["layers"][index]
    h = np.maximum(h @ layer["kernel"] + layer["bias"], 0)
  want = h @ params["head"]["kernel"] + params["head"]["bias"]
  # Three sums of at most 7 float32 terms of size one.
  np.testing.assert_allclose(
    model(np.asarray(x, np.float32)), want, atol=64 * 2**-24 * 8
  )


def test_images_are_flattened():
  model = models.make("mlp", input_shape=(4, 4, 1))
  assert model(np.zeros((3, 4, 4, 1), np.float32)).shape == (3, 10)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"activation": "rellu"}, "'rellu'; allowed: .* Did you mean 'relu'"),
    ({"input_shape": ()}, r"input_shape=\(\) must hold positive"),
    ({"num_classes": 0}, "num_classes=0; allowed: an int >= 1"),
    ({"hidden_dim": 0}, "hidden_dim=0; allowed: an int >= 1"),
    ({"dropout_rate": -0.1}, r"dropout_rate=-0.1; allowed: .* >= 0 and < 1"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("mlp", **options)
