"""Which probes are taken where in a step; `record.probes` says how."""

from normjax.nn.model_roles import Roles
from normjax.record import probes
from normjax.types import Array, PyTree


def of_gradient(
  gradients: PyTree, patterns: tuple[str, ...]
) -> dict[str, Array]:
  """Probes of the gradient, before it is clipped."""
  return probes.statistics(
    "gradient", gradients, patterns
  ) | probes.norms_by_depth("gradient_norm", gradients, patterns)


def of_update(
  updates: PyTree, params: PyTree, patterns: tuple[str, ...], roles: Roles
) -> dict[str, Array]:
  """Probes of an update, and of the parameters that it is added to.

  Args:
    updates: of what is trained.
    params: what they are added to.
    patterns: the probes.
    roles: say which parameters are norms', those of norms of weights too, and
      which updates are matrices of hidden layers.
  """
  if not patterns:
    return {}
  norms = {path for path, role in roles.params() if role.norm is not None}
  return (
    probes.statistics("update", updates, patterns)
    | probes.effective_learning_rate(updates, params, patterns)
    | probes.weight_norms(params, patterns)
    | probes.norm_parameters(params, patterns, norms)
    | probes.spectrum(roles.matrices(updates), patterns)
  )
