"""A start step that trains the model on a data set of its own first."""

import jax
import numpy as np
import pytest
from flax import nnx

from normjax import convert, errors, models
from normjax.nn import start
from normjax.nn import variables as nn_variables

ENTRY = "pretrained(num_steps=2, batch_size=4, quarter_turns=1)"


def _network(mode="eval", **options):
  return nn_variables.split(
    models.make(
      "cifar_resnet",
      depth=8,
      width=2,
      input_shape=(8, 8, 1),
      conv_norm_mode=mode,
      rngs=nnx.Rngs(0),
      **options,
    )
  )


def _moved(entry, network):
  model, variables = network
  step = convert.start_step(entry)
  start.check([step], model, variables)
  return start.apply([step], model, variables)[1]


def test_modes_go_on_from_the_same_network():
  """Statistics are learned whatever mode the run has them in."""
  ours, theirs = (_moved(ENTRY, _network(mode)) for mode in ("eval", "tune"))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  before = _network()[1]
  for kind in ("params", "stats"):
    pairs = zip(*map(jax.tree.leaves, (ours[kind], before[kind])), strict=True)
    assert all(np.any(a != b) for a, b in pairs)


def test_turns_are_another_data_set():
  upright = _moved("pretrained(num_steps=2, batch_size=4)", _network())
  turned = _moved(ENTRY, _network())
  assert np.any(
    upright["params"]["head"]["kernel"] != turned["params"]["head"]["kernel"]
  )


def test_classes_that_are_left_out_teach_nothing():
  """Their own logits are lowered alone, by the images of the others."""
  before = _network()[1]["params"]["head"]["bias"]
  after = _moved(
    "pretrained(num_classes=5, num_steps=1, batch_size=64)", _network()
  )["params"]["head"]["bias"]
  assert np.all(after[5:] < before[5:])
  assert np.any(after[:5] > before[:5])
  everything = _moved("pretrained(num_steps=1, batch_size=64)", _network())
  named = _moved(
    "pretrained(num_classes=10, num_steps=1, batch_size=64)", _network()
  )
  jax.tree.map(np.testing.assert_array_equal, named, everything)


@pytest.mark.parametrize(
  ("entry", "said"),
  [
    ("pretrained(num_steps=0)", "num_steps"),
    ("pretrained(num_classes=0)", "num_classes"),
    ("pretrained(learning_rate=-1.0)", "learning_rate"),
    (
      "pretrained(data='shakespeare')",
      "has tokens and classes; needed: images",
    ),
    ("pretrained(data='digit')", "Did you mean 'digits'"),
  ],
)
def test_what_it_cannot_learn_from(entry, said):
  with pytest.raises(errors.UserError, match=said):
    convert.start_step(entry)


def test_a_model_of_other_images_is_refused_before_the_run():
  model, variables = nn_variables.split(
    models.make("cifar_resnet", depth=8, width=2, rngs=nnx.Rngs(0))
  )
  step = convert.start_step(ENTRY)
  with pytest.raises(errors.UserError, match=r"8, 1\) are not"):
    start.check([step], model, variables)
