"""Normalized softmax: Zhai, Wu 2019, arXiv:1811.12649.

The official repository, azgo14/classification_metric_learning (Apache-2.0), was
read; of the paper the abstract.
"""

import jax
import jax.numpy as jnp

from normjax import norms, validate
from normjax.similarity import matrices, prototypes
from normjax.similarity.heads import base
from normjax.types import Array

# torch's LayerNorm(elementwise_affine=False).
_STANDARDIZE = norms.make(
  "layer_norm", eps=1e-5, use_scale=False, use_bias=False
)


def normalized_softmax(
  temperature: float = 0.05,
  embedding_dim: int | None = None,
  standardize: bool = True,
  learn_scale: bool = False,
) -> base.Head:
  """Cosines of embeddings and class proxies, over a temperature.

      z_c = cos(e, w_c) / T,  e = LN(x) A

  LN is a layer norm without parameters; A has no bias, and is there where
  `embedding_dim` is. The columns of `kernel` are the proxies w_c; they start
  uniform in +-1 / sqrt(dim) and are normalized in each call. The loss is the
  softmax cross-entropy. With `learn_scale` and without `standardize` it is the
  classifier of weight imprinting (Qi et al. 2018, arXiv:1712.07136), of which
  the abstract was read. A class that training did not have gets its proxy from
  examples, by `imprint`: so used, it is the hyperspherical embedding for novel
  classes (Pereira et al. 2021, arXiv:2102.03243; the abstract was read).

  The temperature is a number of the program, so that logits are logits for
  every loss and metric.

  Args:
    temperature: T, > 0; 0.05, as in the official code.
    embedding_dim: of e; None, as it is unless said: the features are compared
      as they are.
    standardize: whether there is LN; True unless said.
    learn_scale: whether 1 / T is a parameter, `scale`, that starts there; False
      unless said.

  Raises:
    UserError: an option out of range.
  """
  name = "normalized_softmax"
  base.check_temperature(name, temperature)
  base.check_dim(name, embedding_dim)
  validate.flags(name, standardize=standardize, learn_scale=learn_scale)
  options = {
    "temperature": temperature,
    "embedding_dim": embedding_dim,
    "standardize": standardize,
    "learn_scale": learn_scale,
  }
  return base.Head(name, options, _init, _apply, prototypes.imprinted)


def _init(
  key: Array,
  features: int,
  classes: int,
  *,
  temperature: float,
  embedding_dim: int | None,
  learn_scale: bool,
  **_,
):
  keys = jax.random.split(key)
  dim, params = embedding_dim or features, {}
  if embedding_dim is not None:
    shape = (features, dim)
    params["embedding_kernel"] = base.uniform(keys[0], shape, features)
  params["kernel"] = base.uniform(keys[1], (dim, classes), dim)
  if learn_scale:
    params["scale"] = jnp.float32(1 / temperature)
  return {"params": params}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  temperature: float,
  standardize: bool,
  learn_scale: bool,
  **_,
) -> base.Compared:
  params = variables["params"]
  if standardize:
    x, _ = _STANDARDIZE.apply({}, x)
  if "embedding_kernel" in params:
    x = x @ params["embedding_kernel"]
  embedding = matrices.unit(x)
  cosines = embedding @ matrices.unit_columns(params["kernel"])
  scale = params["scale"] if learn_scale else 1 / temperature
  return base.Compared(cosines * scale, embedding)
