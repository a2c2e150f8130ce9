"""Mixup and CutMix: batches of images mixed with themselves, in the step.

    mixup  x <- s x + (1 - s) x',  s ~ Beta(alpha, alpha)
    cutmix x <- x outside a box, x' inside; s is the share outside

Zhang et al. 2017, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899. x' is
the batch from its last example to its first, and the loss is s of that of x's
class and 1 - s of that of x''s, which is the cross-entropy of the mixed
targets, smoothed or not. The conventions are those of timm (timm/data/mixup.py,
which the tables of DeiT, ConvNeXt and DyT were made with): boxes may reach over
the edge, and s is what is left of the image.

What is mixed is a function of the run's seed and the step. The padding of a
batch, examples of weight 0, is mixed into nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from normjax import configure, errors, objectives
from normjax.metrics import Batch
from normjax.nn.output import Output
from normjax.types import Array

# What is drawn once: for the batch; for each example; or for each example
# with cutmix on the last ones and mixup on the others, as in deepmind-research
# nfnets/dataset.py (whose partners are further images of the data set).
MODES = ("batch", "element", "halves")
ALPHAS = ("train.mixup_alpha", "train.cutmix_alpha")
_OTHERS = (
  "train.mixup_probability",
  "train.mixup_switch_probability",
  "train.mixup_mode",
)
# What a mixed batch has beside its three parts: the share of its own target
# in each example, and the target of what is mixed in.
SHARE, OTHER = "share", "other_targets"


class Options(NamedTuple):
  """How to mix; numbers may be traced.

  Attributes:
    mode: one of `MODES`.
    mixup_alpha: of its Beta distribution; None: no mixup.
    cutmix_alpha: the same of cutmix; one of both is there.
    probability: that anything is mixed.
    switch_probability: that it is by cutmix, where both are there; of "halves"
      the share of the batch.
  """

  mode: str
  mixup_alpha: Array | float | None
  cutmix_alpha: Array | float | None
  probability: Array | float = 1.0
  switch_probability: Array | float = 0.5


def options(
  config: configure.ConfigDict, values: Mapping[str, Any]
) -> Options | None:
  """What a config asks for; None: nothing is mixed.

  Args:
    config: a resolved config.
    values: dotted path to number, traced or not; what is not there has its
      default.
  """
  if not any(map(values.__contains__, ALPHAS)):
    return None
  return Options(
    configure.optional(config, "train.mixup_mode"),
    *map(values.get, ALPHAS),
    *(values.get(path, configure.OPTIONAL[path]) for path in _OTHERS[:2]),
  )


def check(config: configure.ConfigDict, dataset: Any) -> None:
  """Refuses what cannot be mixed, and options that nothing would read.

  Raises:
    UserError: data that are no images with classes, an odd batch, or an option
      without what it is for.
  """
  given = dict(configure.leaves(configure.to_dict(config)))
  set_ = [path for path in (*ALPHAS, *_OTHERS) if path in given]
  if not set_:
    return
  first = f"{set_[0]}={given[set_[0]]!r}"
  if not any(path in given for path in ALPHAS):
    raise errors.UserError(
      f"{first}: nothing is mixed; set {' or '.join(ALPHAS)} above 0."
    )
  if "train.mixup_switch_probability" in given and not all(
    path in given for path in ALPHAS
  ):
    raise errors.UserError(
      "train.mixup_switch_probability="
      f"{given['train.mixup_switch_probability']!r} chooses between mixup and"
      f" cutmix; set both {' and '.join(ALPHAS)} above 0."
    )
  if dataset.reads != "images" or dataset.targets != "classes":
    raise errors.UserError(
      f"{first}: data {dataset.name!r} gives {dataset.reads} with targets that"
      f" are {dataset.targets}; only images with classes are mixed. Allowed: 0."
    )
  if config.train.batch_size % 2:
    raise errors.UserError(
      f"{first}: train.batch_size={config.train.batch_size} is odd, and the"
      " example in its middle would be mixed with itself; allowed: an even one."
    )


def mix(batch: Batch, options: Options, key: Array) -> Batch:
  """A batch of mixed images.

  Args:
    batch: "inputs" (b, y, x, c), "targets" (b,) and "weight" (b,).
    options: how.
    key: of all that is drawn.

  Returns:
    The batch, its inputs mixed, and the target of what was mixed in and the
    share of its own target, (b,) each, beside the three.

  Raises:
    UserError: inputs of other axes.
  """
  images = batch["inputs"]
  if images.ndim != 4:
    raise errors.UserError(
      f"train.mixup_alpha, train.cutmix_alpha: inputs of shape {images.shape};"
      " only images, (batch, height, width, channels), are mixed."
    )
  b, height, width, _ = images.shape
  is_cut, share = _draw(options, b, key)
  inside, outside_share = _box(share, height, width, jax.random.fold_in(key, 1))
  own_byx = jnp.where(
    is_cut[:, None, None],
    jnp.where(inside, 0.0, 1.0),
    share[:, None, None],
  )
  share = jnp.where(is_cut, outside_share, share)
  is_real = jnp.flip(batch["weight"], 0) > 0
  own_byx = jnp.where(is_real[:, None, None], own_byx, 1.0)
  dtype = jnp.promote_types(images.dtype, jnp.bfloat16)
  own_byxc = own_byx[..., None].astype(dtype)
  mixed = own_byxc * images + (1 - own_byxc) * jnp.flip(images, 0)
  return {
    **batch,
    "inputs": mixed,
    SHARE: jnp.where(is_real, share, 1.0),
    OTHER: jnp.flip(batch["targets"], 0),
  }


def _draw(options: Options, size: int, key: Array) -> tuple[Array, Array]:
  """Of each example: whether it is cut, and the share that it keeps."""
  shape = (1,) if options.mode == "batch" else (size,)
  keys = jax.random.split(key, 4)

  def beta(key: Array, alpha: Array | float | None) -> Array:
    if alpha is None:
      return jnp.ones(shape)
    return jax.random.beta(key, alpha, alpha, shape)

  if options.cutmix_alpha is None or options.mixup_alpha is None:
    is_cut = jnp.full(shape, options.mixup_alpha is None)
  elif options.mode == "halves":
    is_cut = jnp.arange(size) >= (1 - options.switch_probability) * size
  else:
    is_cut = jax.random.uniform(keys[0], shape) < options.switch_probability
  share = jnp.where(
    is_cut, beta(keys[1], options.cutmix_alpha), beta(keys[2], options.mixup_alpha)
  )
  is_mixed = jax.random.uniform(keys[3], shape) < options.probability
  share = jnp.where(is_mixed, share, 1.0)
  return jnp.broadcast_to(is_cut, size), jnp.broadcast_to(share, size)
