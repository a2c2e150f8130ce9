"""Instance normalization: Ulyanov and others 2016, arXiv:1607.08022."""

from typing import Any

from normjax import validate
from normjax.norms import affine, base, channel_groups
from normjax.types import Array


def instance_norm(
  eps: float = 1e-5, use_scale: bool = True, use_bias: bool = True
) -> base.Norm:
  """Instance normalization: statistics of one channel of one image.

      y = (x - mean) / sqrt(var + eps) * scale + bias

  arXiv:1607.08022, equation 4, with the biased variance, in training and in
  evaluation alike. Statistics are float32 (float64 for float64), two passes.
  Sequences (b, t, c) are images of one column. What a mask hides, of examples,
  tokens or pixels, is in no statistic. On maps of one pixel y is the bias:
  nothing of x is left. Without a mask the first derivative
  is in reverse mode, the second in any.

  Args:
    eps: inside the square root, > 0: 1e-5 as in PyTorch; Flax has 1e-6.
    use_scale: whether there is a gain; PyTorch's default has none.
    use_bias: whether there is an offset; PyTorch's default has none.

  Raises:
    UserError: an option out of range; from `apply`, an x that is neither
      images nor sequences.
  """
  validate.number("instance_norm", "eps", eps, above=0)
  validate.flags("instance_norm", use_scale=use_scale, use_bias=use_bias)
  return base.Norm(
    name="instance_norm",
    options={"eps": eps, "use_scale": use_scale, "use_bias": use_bias},
    traits=base.NormTraits(
      statistics="per_example",
      scale_invariant=True,
      shift_invariant=True,
      affine_last=True,
      mixes_positions=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, use_scale: bool, use_bias: bool, **_: Any):
  return {"params": affine.init(shape, dtype, use_scale, use_bias)}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mask: Array | None,
  eps: float,
  **_: Any,
):
  base.check_positions("instance_norm", x)
  affine.check("instance_norm", x, variables["params"])
  params, images = variables["params"], channel_groups.as_images(x)
  y = channel_groups.standardize(images, params, x.shape[-1], eps, mask)
  return y.reshape(x.shape), variables["stats"]
