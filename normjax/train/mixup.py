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

from typing import NamedTuple

import jax
import jax.numpy as jnp

from normjax import configure, errors, objectives
from normjax.metrics import Batch
from normjax.nn.output import Output
from normjax.types import Array, Hyper

ALPHAS = ("train.mixup_alpha", "train.cutmix_alpha")
PROBABILITY = "train.mixup_probability"
SWITCH = "train.mixup_switch_probability"
MODE = "train.mixup_mode"
# What a mixed batch has beside its three parts: the share of its own target
# in each example, and the target of what is mixed in.
SHARE, OTHER = "share", "other_targets"


class Options(NamedTuple):
  """How to mix; numbers may be traced.

  Attributes:
    mode: what is drawn once. "batch": for the batch; "element": for each
      example; "halves": for each, with cutmix for the last ones and mixup for
      the others, as in deepmind-research nfnets/dataset.py (whose partners are
      further images of the data set).
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


def of_scalars(mode: str, scalars: Hyper) -> Options | None:
  """What a config asks for; None: nothing is mixed.

  Args:
    mode: `train.mixup_mode` of the config.
    scalars: the run's, by dotted path; those at their defaults are not there.
  """
  if not any(path in scalars for path in ALPHAS):
    return None
  return Options(
    mode,
    *(scalars.get(path) for path in ALPHAS),
    *(
      scalars.get(path, configure.OPTIONAL[path])
      for path in (PROBABILITY, SWITCH)
    ),
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
  size, height, width, _ = images.shape
  # One draw for all examples, or one for each.
  n = 1 if options.mode == "batch" else size
  draw_key, y_key, x_key = jax.random.split(key, 3)
  is_cut, share = _draw(options, n, size, draw_key)
  inside, rest = box(
    share,
    jax.random.randint(y_key, (n,), 0, height),
    jax.random.randint(x_key, (n,), 0, width),
    (height, width),
  )
  share_yx = jnp.where(
    is_cut[:, None, None], jnp.where(inside, 0.0, 1.0), share[:, None, None]
  )
  share = jnp.where(is_cut, rest, share)
  is_real = jnp.flip(batch["weight"], 0) > 0
  share_yx = jnp.where(is_real[:, None, None], share_yx, 1.0)
  # Whole numbers become float32; other floats stay.
  own = share_yx[..., None].astype(
    images.dtype if jnp.issubdtype(images.dtype, jnp.floating) else jnp.float32
  )
  return {
    **batch,
    "inputs": own * images + (1 - own) * jnp.flip(images, 0),
    SHARE: jnp.where(is_real, share, 1.0),
    OTHER: jnp.flip(batch["targets"], 0),
  }


def _draw(
  options: Options, n: int, size: int, key: Array
) -> tuple[Array, Array]:
  """Whether cutmix is drawn, and the share that stays; (n,) or (size,) each."""
  keys = jax.random.split(key, 4)

  def beta(key: Array, alpha: Array | float | None) -> Array:
    return (
      jnp.ones(n) if alpha is None else jax.random.beta(key, alpha, alpha, (n,))
    )

  if options.mixup_alpha is None or options.cutmix_alpha is None:
    is_cut = jnp.full(n, options.mixup_alpha is None)
  elif options.mode == "halves":
    is_cut = jnp.arange(size) >= (1 - options.switch_probability) * size
  else:
    is_cut = jax.random.uniform(keys[0], (n,)) < options.switch_probability
  share = jnp.where(
    is_cut,
    beta(keys[1], options.cutmix_alpha),
    beta(keys[2], options.mixup_alpha),
  )
  is_mixed = jax.random.uniform(keys[3], (n,)) < options.probability
  return is_cut, jnp.where(is_mixed, share, 1.0)


def box(
  share: Array, center_y: Array, center_x: Array, shape: tuple[int, int]
) -> tuple[Array, Array]:
  """The box that cutmix fills, and what is left outside of it.

  Its sides are floor(side sqrt(1 - share)) of the image's, less one where that
  is odd; the part beyond the image's edge is cut off.

  Args:
    share: to be left, (n,).
    center_y: rows, (n,), int.
    center_x: columns, (n,), int.
    shape: height and width.

  Returns:
    Whether each pixel is inside, (n, y, x), and the share outside, (n,).
  """

  def within(center: Array, side: int) -> Array:
    half = (side * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    places = jnp.arange(side)
    low, high = (center - half)[:, None], (center + half)[:, None]
    return (places >= low) & (places < high)

  rows, columns = within(center_y, shape[0]), within(center_x, shape[1])
  inside = rows[:, :, None] & columns[:, None, :]
  return inside, 1 - jnp.mean(inside, axis=(1, 2), dtype=jnp.float32)


def sums(
  objective: objectives.Objective, output: Output, batch: Batch
) -> objectives.Sums:
  """The sums of an objective, over a batch that is mixed or not.

  Of a mixed one each is that of the own targets, weighted by their share, and
  that of the others by the rest: an accuracy counts a hit of each so.
  """
  if SHARE not in batch:
    return objective.sums(output, batch)
  weight, share = batch["weight"], batch[SHARE]
  own = objective.sums(output, {**batch, "weight": weight * share})
  other = objective.sums(
    output,
    {**batch, "targets": batch[OTHER], "weight": weight * (1 - share)},
  )
  return {name: own[name] + other[name] for name in own}
