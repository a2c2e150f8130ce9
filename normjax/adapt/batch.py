"""Statistics of the test batch: Nado et al. 2020, arXiv:2006.10963.

Official code of the form here: github.com/DequanWang/tent, norm.py (MIT).
"""

from flax import nnx

from normjax.adapt import base, sites


def batch(model: nnx.Module) -> base.Adapter:
  """Each batch is normalised by its own mean and biased variance.

  "norm" and "TBN" in papers. The official code moves the running statistics
  too, and never reads them; here they stay.

  Args:
    model: with running statistics somewhere; norms without are as trained.

  Raises:
    UserError: no such norm.
  """
  pinned = sites.pin("batch", model, needs="statistics", statistics="batch")
  return base.adapter("batch", pinned, base.keeps_state)
