"""Planted in ranks of activations."""

from tests.faults.fault import Fault

FAULTS = (
  Fault(
    "a rank of activations that are not centred",
    "normjax/spectra/moments.py",
    "- n * np.outer(mean_d, mean_d)",
    "",
    "tests/spectra/official/test_official.py::test_ranks[all]",
  ),
  Fault(
    "buckets of words in place of occurrences",
    "normjax/spectra/buckets.py",
    "so_far_v = np.cumsum(falling_v)",
    "so_far_v = np.arange(1, 1 + len(falling_v))",
    "tests/spectra/official/test_official.py::test_buckets_of_tokens",
  ),
  Fault(
    "an exponent's interval of n - 1 degrees of freedom",
    "normjax/statistics/power_law.py",
    "distributions.t_quantile(n - 2, 1 - ALPHA / 2)",
    "distributions.t_quantile(n - 1, 1 - ALPHA / 2)",
    "tests/statistics/test_power_law.py"
    "::test_the_interval_is_that_of_a_regression",
  ),
  Fault(
    "ranks of fewer tokens than an evaluation is asked for",
    "normjax/train/evaluate.py",
    "if found < needed:",
    "if found < 0:",
    "tests/train/test_ffn_rank.py"
    "::test_what_has_no_rank_is_refused_before_training[change0-said0]",
  ),
)
