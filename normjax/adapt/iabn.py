"""Instance-aware batch normalization at test time, arXiv:2208.05117.

Official code: github.com/TaesikGong/NOTE (MIT).
"""

from flax import nnx

from normjax.adapt import base, sites


def iabn(model: nnx.Module) -> base.Adapter:
  """A model trained with the norm `iabn`, which corrects itself per example.

  Nothing moves; an example sees nothing of the others. It is NOTE without its
  memory.

  Args:
    model: whose norms with running statistics are all `norms.iabn`. Put in the
      place of a batch norm that was trained without it, it is another network.

  Raises:
    UserError: another norm.
  """
  pinned = sites.pin("iabn", model, needs="iabn")
  return base.adapter("iabn", pinned, base.keeps_state)
