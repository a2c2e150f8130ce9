"""alpha-BN: You et al. 2021, arXiv:2110.04065, no official code.

The form is that of the baseline "norm_alpha" in github.com/devavratTomar/
unmixtns (no licence; equations only), itself after bethgelab/robustness
(Apache-2.0). The paper's own direction and default of alpha were not read.
"""

from flax import nnx

from normjax import validate
from normjax.adapt import base, sites


def alpha_bn(model: nnx.Module, test_weight: float = 0.1) -> base.Adapter:
  """Source statistics, mixed with those of the batch.

      mean = (1 - w) mean_source + w mean_test
      var  = (1 - w) var_source + w var_test

  Variances are mixed, not deviations; var_test is the unbiased one. Nothing
  is kept from batch to batch.

  Args:
    model: whose running statistics can all be mixed: batch_norm, for example.
    test_weight: w, of the *test* statistics, from 0 (`source`) to 1 (`batch`
      with the unbiased variance).

  Raises:
    UserError: a weight outside [0, 1], or a norm that cannot be mixed.
  """
  validate.number("alpha_bn", "test_weight", test_weight, least=0, most=1)
  pinned = sites.pin(
    "alpha_bn",
    model,
    needs="blends",
    statistics="blended",
    batch_weight=test_weight,
  )
  return base.adapter("alpha_bn", pinned, base.keeps_state)
