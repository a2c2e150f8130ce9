import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, objectives
from normjax.nn.output import Output


def test_equals_a_float64_transcription():
  generator = np.random.default_rng(0)
  predicted, targets = 3 * generator.normal(size=(2, 6, 3))
  weight = np.array([1, 1, 0, 1, 0.5, 1])
  error = predicted - targets
  want = {
    "objective": (weight * (error**2).mean(-1)).sum(),
    "loss": (weight * (error**2).mean(-1)).sum(),
    "absolute_error": (weight * np.abs(error).mean(-1)).sum(),
    "weight": weight.sum(),
  }
  batch = {"targets": targets, "weight": weight}
  made = objectives.make("squared_error")
  got = made.sums(
    Output(jnp.asarray(predicted, jnp.float32)),
    {key: jnp.asarray(value, jnp.float32) for key, value in batch.items()},
  )
  assert got.keys() == want.keys()
  for name, value in want.items():
    # Five float32 terms of size ~10, each good to a few 2**-24.
    np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)
  (root,) = made.metrics
  assert (root.of, root.finish(np.float64(6.25), None)) == ("loss", 2.5)


@pytest.mark.parametrize(
  ("objective", "targets", "weight", "wanted"),
  [
    ("squared_error", (4,), (4,), r"\(4, values\); got \(4,\)"),
    # These would broadcast: each example's weight would be a position's.
    ("squared_error", (4, 4, 2), (4,), r"\(4, values\); got \(4, 4, 2\)"),
    ("cross_entropy", (4, 4), (4,), r"\(4\); got \(4, 4\)"),
  ],
)
def test_weights_of_another_shape_are_refused(
  objective, targets, weight, wanted
):
  made = objectives.make(objective)
  values = made.targets == "values"
  targets = jnp.zeros(targets, float if values else int)
  logits = targets if values else jnp.zeros((*targets.shape, 3))
  batch = {"targets": targets, "weight": jnp.ones(weight)}
  with pytest.raises(errors.UserError, match=f"need targets of shape {wanted}"):
    made.sums(Output(logits), batch)
