"""A norm's gain and offset, where they are the last thing that it does."""

import jax
import numpy as np
import pytest

from normjax import errors, norms
from normjax.norms import affine
from tests.contracts import norm_values
from tests.norms import cases

LAST = [case for case in cases.all_cases() if case.norm.traits.affine_last]


@pytest.mark.parametrize("case", LAST, ids=str)
def test_what_is_taken_from_a_norm_makes_it_whole_again(case):
  shape = norm_values.SHAPES[4 if case.norm.traits.spatial_only else 3]
  variables, x = norm_values.inputs(case.norm, shape)
  # By the transcription, which knows of no taking apart.
  want, _ = norm_values.truth(case, variables, x)
  with jax.enable_x64(True):
    rest, kept, gain, offset = affine.taken_from(case.norm, variables["params"])
    made = rest.init(norm_values.feature_shape(x.ndim))["params"]
    assert set(kept) <= set(made)
    assert (gain is None, offset is None) == (
      not {"scale", "direction"} & set(variables["params"]),
      "bias" not in variables["params"],
    )
    found = np.asarray(rest.apply({"params": kept}, x)[0])
    if gain is not None:
      found = found * np.asarray(gain)
    if offset is not None:
      found = found + np.asarray(offset)
  np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-9)


def test_norms_of_whose_gain_nobody_says_so_are_refused():
  norm = norms.make("seednorm")
  with pytest.raises(errors.UserError, match="'seednorm' are not the last"):
    affine.taken_from(norm, {})
