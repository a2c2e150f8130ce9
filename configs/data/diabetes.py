"""442 patients by 10 features, a regression, from scikit-learn (BSD-3-Clause).

Progression of the disease a year later, standardized: Efron et al. 2004,
arXiv:math/0406456. Cross-validated; the loss is squared_error.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "diabetes",
      # The seed says which fold validates; the next one tunes. 0: one fixed
      # fifth validates at all seeds, and choices are made on it, too.
      "num_folds": 5,
      # A column by its name, whose bins are the domains that norms with
      # num_domains read: so many, by quantiles, or between these edges.
      "domain_column": "",
      "domain_bins": 2,
      "domain_edges": (),
    }
  )
