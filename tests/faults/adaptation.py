"""Planted in methods of test-time adaptation and in their streams."""

from tests.faults.fault import Fault

_OFFICIAL = "tests/adapt/official/test_official.py::test_official"
_HERE = "tests/adapt/test_adapt.py"
_OWN = "tests/adapt/test_own_models.py"

FAULTS = (
  Fault(
    "weights of a mixture that add up to 1",
    "normjax/adapt/unmix_tns.py",
    "  rest_bk = 1 - p_bk\n",
    "  rest_bk = (1 - p_bk) / k\n",
    f"{_OFFICIAL}[unmix_tns]",
  ),
  Fault(
    "sharpness downhill",
    "normjax/adapt/sar.py",
    "v + (away * g)",
    "v - (away * g)",
    f"{_OFFICIAL}[sar]",
  ),
  Fault(
    "a recovery that also forgets the momentum",
    "normjax/adapt/sar.py",
    "    if full_reset:\n",
    "    if not full_reset:\n",
    f"{_OFFICIAL}[sar_reset]",
  ),
  Fault(
    "examples that are old news",
    "normjax/adapt/eata.py",
    "~(begun & (near >=",
    "~(begun & (near <",
    f"{_OFFICIAL}[eta]",
  ),
  Fault(
    "the weight of the source in place of the test's",
    "normjax/adapt/alpha_bn.py",
    "batch_weight=test_weight",
    "batch_weight=1 - test_weight",
    f"{_OFFICIAL}[alpha_bn]",
  ),
  Fault(
    "variances of batches without that of their means",
    "normjax/adapt/pooled.py",
    "spread + share * (1 - share) * jnp.square(step)",
    "spread",
    f"{_HERE}::test_adabn_takes_the_statistics_of_the_whole_stream",
  ),
  Fault(
    "NaN that is class 0",
    "normjax/metrics/hits.py",
    "return found & ~jnp.any(jnp.isnan(logits), axis=-1)",
    "return found",
    "tests/adapt/test_stream.py::test_nan_is_no_answer",
  ),
  Fault(
    "a norm's last call in place of all",
    "normjax/adapt/pooled.py",
    "  total = size + count\n",
    "  total = count\n",
    f"{_OWN}::test_adabn_pools_what_passes_a_norm_in_several_calls",
  ),
  Fault(
    "no reset at a shift",
    "normjax/adapt/loop.py",
    "if segment.begins_anew:",
    "if False:",
    "tests/adapt/test_stream.py"
    "::test_a_reset_begins_with_the_trained_model[reset_each_shift-True]",
  ),
  Fault(
    "models of other seeds all start as the first",
    "normjax/adapt/loop.py",
    "start = own if start is None else start",
    "start = own",
    "tests/adapt/test_stream.py"
    "::test_models_of_other_seeds_share_the_program[tent]",
  ),
)
