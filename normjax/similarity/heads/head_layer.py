"""Any head as a Flax NNX module: the only place where NNX meets heads."""

from flax import nnx

from normjax.nn import roles
from normjax.nn.output import Output
from normjax.nn.variables import attach_variables, own_variables
from normjax.similarity import heads
from normjax.types import Array

_ROLES = {
  "kernel": roles.kernel("in", "out"),
  "embedding_kernel": roles.kernel("in", "out"),
  "embedding_bias": roles.bias("out"),
  "scale": roles.gain(),
}


class HeadLayer(nnx.Module):
  """A head with its variables, float32, under the head's own names."""

  parameter_roles = _ROLES

  def __init__(
    self, head: heads.HeadSpec, features: int, classes: int, *, rngs: nnx.Rngs
  ):
    """Makes the variables.

    Args:
      head: a name, "name(option=value)", a mapping with "name", or a Head.
      features: of what it reads.
      classes: of the logits.
      rngs: stream "params".

    Raises:
      UserError: an unknown head, a bad option, sizes that do not fit.
    """
    self.head = heads.resolve(head)
    self.num_classes = classes  # An embedding may have another dimension.
    attach_variables(self, self.head.init(rngs.params(), features, classes))

  def __call__(self, x: Array) -> Output:
    """Logits (b, c), and the feature "embedding" (b, e), what is compared."""
    logits, embedding = self.head.apply(own_variables(self), x)
    return Output(logits, features={"embedding": embedding})

  def imprint(self, embeddings: Array, labels: Array, classes: int) -> None:
    """Gives classes vectors from their examples; see `Head.imprint`."""
    made = self.head.imprint(own_variables(self), embeddings, labels, classes)
    attach_variables(self, {"params": made["params"]})
    self.num_classes = classes
