"""No adaptation: the model as it was trained."""

from flax import nnx

from normjax.adapt import base, sites


def source(model: nnx.Module) -> base.Adapter:
  """The baseline of the others: evaluation, by the running statistics.

  Args:
    model: any.
  """
  return base.adapter("source", sites.pin("source", model), base.keeps_state)
