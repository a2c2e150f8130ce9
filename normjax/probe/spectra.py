"""Singular values of a model's matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.record import probes
from normjax.types import Array

# Of a matrix's singular values so many are kept, evenly by their number.
MOST_KEPT = 64


def weight_spectra(
  model: nnx.Module, most: int = MOST_KEPT
) -> dict[str, dict[str, Any]]:
  """Of each hidden matrix: its singular values and what they come to.

  `largest`, `stable_rank` and `effective_rank` are those of
  `record.probes.spectrum`; of a kernel that is several matrices, means. The
  matrices are those that a matrix optimizer sees: neither the embedding nor
  the head.

  Args:
    model: any.
    most: of the singular values so many are given, evenly by their number,
      the first and the last among them.

  Returns:
    By path: `shape` (inputs, outputs), `largest`, `stable_rank`,
    `effective_rank`, `singular_values`, and `numbers`, where these stand.
  """
  structure, variables = nn_variables.split(model)
  roles = model_roles.of(nn_variables.merge(structure, variables))
  found = {}
  for path, matrix_bio in roles.matrices(variables["params"]).items():
    s_i, values = jax.device_get(_spectrum(matrix_bio))
    count = min(most, len(s_i))
    numbers = np.unique(np.linspace(0, len(s_i) - 1, count).round().astype(int))
    found[path] = {
      "shape": list(matrix_bio.shape[1:]),
      **{name: float(value) for name, value in values.items()},
      "singular_values": s_i[numbers].tolist(),
      "numbers": numbers.tolist(),
    }
  return found


@jax.jit
def _spectrum(matrix_bio: Array) -> tuple[Array, dict[str, Array]]:
  """Singular values, of several matrices their means, and numbers of them."""
  s_bi, scale = probes.singular_values(matrix_bio)
  return jnp.mean(s_bi * scale[:, 0], 0), probes.describe_spectrum(s_bi, scale)
