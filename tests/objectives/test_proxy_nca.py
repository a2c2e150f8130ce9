import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, objectives
from normjax.nn.output import Output

GENERATOR = np.random.default_rng(0)
LOGITS = 3 * GENERATOR.normal(size=(6, 5))
TARGETS = GENERATOR.integers(0, 5, size=6)
WEIGHT = np.array([1, 1, 0, 1, 0.5, 1])


def _sums(logits, targets):
  batch = {
    "targets": jnp.asarray(targets),
    "weight": jnp.asarray(WEIGHT, jnp.float32),
  }
  return objectives.make("proxy_nca").sums(
    Output(jnp.asarray(logits, jnp.float32)), batch
  )


def test_equals_a_transcription():
  """Of the ratio of the paper: the own class is not in the denominator."""
  ratios = np.array(
    [
      np.exp(z[y]) / sum(np.exp(z[c]) for c in range(5) if c != y)
      for z, y in zip(LOGITS, TARGETS, strict=True)
    ]
  )
  found = _sums(LOGITS, TARGETS)
  # Six float32 terms.
  want = (WEIGHT * -np.log(ratios)).sum()
  np.testing.assert_allclose(found["objective"], want, rtol=1e-6)
  # Its loss is that of the softmax, to be compared with.
  plain = objectives.make("cross_entropy").sums(
    Output(jnp.asarray(LOGITS, jnp.float32)),
    {"targets": jnp.asarray(TARGETS), "weight": jnp.asarray(WEIGHT)},
  )
  np.testing.assert_allclose(found["loss"], plain["loss"], rtol=1e-6)


def test_one_class_is_refused():
  with pytest.raises(errors.UserError, match="1 class; allowed: 2 or more"):
    _sums(LOGITS[:, :1], np.zeros(6, int))
