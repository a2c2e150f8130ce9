"""Group normalization: Wu, He 2018, arXiv:1803.08494."""

from typing import Any

from normjax import validate
from normjax.norms import affine, base, channel_groups
from normjax.types import Array


def group_norm(num_groups: int = 32, eps: float = 1e-5) -> base.Norm:
  """Group normalization: statistics of an image's group of channels.

      y = (x - mean) / sqrt(var + eps) * scale + bias

  arXiv:1803.08494, equations 1 to 7, with the biased variance. A group is c /
  num_groups neighbouring channels at all pixels of one image; gain and offset
  are one per channel. Statistics are float32 (float64 for float64), two passes.
  One group is a layer norm over all of the image, c groups are an instance
  norm. Sequences (b, t, c) are images of one column. What a mask hides, of
  examples, tokens or pixels, is in no statistic. Without a mask the
  first derivative is in reverse mode, the second in any.

  Args:
    num_groups: >= 1, divides the channels. The paper's 32 takes 32 channels
      at least.
    eps: inside the square root, > 0: 1e-5 as in the paper; Flax has 1e-6.

  Raises:
    UserError: an option out of range; groups that do not divide the channels;
      from `apply`, an x that is neither images nor sequences.
  """
  validate.count("group_norm", "num_groups", num_groups, least=1)
  validate.number("group_norm", "eps", eps, above=0)
  return base.Norm(
    name="group_norm",
    options={"num_groups": num_groups, "eps": eps},
    traits=base.NormTraits(
      statistics="per_example",
      scale_invariant=True,
      shift_invariant=True,
      mixes_positions=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, num_groups: int, **_: Any):
  base.check_groups("group_norm", num_groups, shape[-1])
  return {"params": affine.init(shape, dtype)}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mask: Array | None,
  num_groups: int,
  eps: float,
  **_: Any,
):
  base.check_positions("group_norm", x)
  base.check_groups("group_norm", num_groups, x.shape[-1])
  affine.check("group_norm", x, variables["params"])
  params, images = variables["params"], channel_groups.as_images(x)
  y = channel_groups.standardize(images, params, num_groups, eps, mask)
  return y.reshape(x.shape), variables["stats"]
