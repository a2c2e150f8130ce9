"""Planted in norms that read a domain, and in the way to them."""

from tests.faults.fault import Fault

_NORMS = "tests/norms/test_domains.py"
_RUNS = "tests/train/test_domains.py"

FAULTS = (
  Fault(
    "the variance of a domain about the batch's mean",
    "normjax/norms/dsbn.py",
    "centered = x - _of_example(first, member, x)",
    "centered = x - jnp.mean(first, axis=0)",
    f"{_NORMS}::test_a_mixed_batch_is_a_batch_norm_per_domain",
  ),
  Fault(
    "a single example is normalised by itself",
    "normjax/norms/dsbn.py",
    "jnp.where(count > 1, own, stats[name].astype(own.dtype))",
    "jnp.where(count > 0, own, stats[name].astype(own.dtype))",
    f"{_NORMS}::test_a_single_value_of_a_domain_is_normalised_by_what_runs",
  ),
  Fault(
    "an id out of range gives finite numbers",
    "normjax/norms/domains.py",
    "jnp.where(is_known, member.astype(dtype), jnp.nan)",
    "member.astype(dtype)",
    f"{_NORMS}::test_an_id_out_of_range_is_nan_and_touches_nothing_else"
    "[film-True]",
  ),
  Fault(
    "an evaluation without its domains",
    "normjax/train/step.py",
    "  with given.of_batch(batch):\n    output, _, _ = forward(",
    "  with given.context({given.DOMAIN: 0 * batch[given.DOMAIN]}):\n"
    "    output, _, _ = forward(",
    f"{_RUNS}::test_steps_and_evaluations_see_the_domains_of_their_batch",
  ),
  Fault(
    "bins by the values of all splits",
    "normjax/data/embedded.py",
    "found = asked.found(name, columns, inputs)",
    "found = asked.found(\n"
    "      name, columns, np.concatenate([p[0] for p in parts.values()])\n"
    "    )",
    "tests/data/test_domains.py::test_bins_are_quantiles_of_what_is_trained_on",
  ),
)
