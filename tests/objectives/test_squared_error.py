import jax.numpy as jnp
import numpy as np

from normjax import objectives
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
