"""Feature-wise linear modulation: Perez and others 2018, arXiv:1709.07871.

The equations are second-hand; no official code was read.
"""

from typing import Any

from normjax import validate
from normjax.norms import base, domains, modulation, moments
from normjax.types import Array


def film(num_domains: int = 1, hidden_dim: int = 0) -> base.Norm:
  """FiLM: a gain and an offset of each channel, made from a condition.

      y = x * (scale + f(s) gain_kernel) + bias + f(s) shift_kernel

  arXiv:1709.07871. Nothing is normalised. In the paper it follows a batch norm
  without scale and bias: both together are `conditional_batch_norm`. s is the
  `context`: features of the condition, (b, num_domains), or ids, whose f(s)
  gain_kernel is a row of a table (`normjax.norms.domains`). f is the identity,
  which makes the generator linear, or a hidden layer. Both kernels start at 0
  and `scale` at 1, which is this project's choice: FiLM starts as the identity.

  Computed in float32 (float64 for float64).

  Args:
    num_domains: how many conditions, or features of one, >= 1.
    hidden_dim: of f, relu(s hidden_kernel + hidden_bias); 0: the identity.

  Raises:
    UserError: an option out of range; from `apply`, a context that is missing
      or does not fit.
  """
  validate.count("film", "num_domains", num_domains, least=1)
  validate.count("film", "hidden_dim", hidden_dim, least=0)
  return base.Norm(
    name="film",
    options={"num_domains": num_domains, "hidden_dim": hidden_dim},
    traits=base.NormTraits(
      statistics="none", foldable=num_domains == 1, num_domains=num_domains
    ),
    init_fn=_init,
    apply_fn=_apply,
    needs_key=hidden_dim > 0,
    kernels=modulation.kernels(hidden_dim),
  )


def _init(shape, dtype, **options: Any):
  return {"params": modulation.init(shape, dtype, **options)}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  context: Any,
  num_domains: int,
  **_: Any,
):
  params = variables["params"]
  modulation.check("film", variables, num_domains)
  base.check_features("film", x, params["scale"].size)
  wide = moments.promote(x)
  s = domains.features("film", context, wide, num_domains)
  y = modulation.apply(wide, params, s)
  return y.astype(x.dtype), variables["stats"]
