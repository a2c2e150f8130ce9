"""Planted in similarities and in heads that compare vectors."""

from tests.faults.fault import Fault

_OFFICIAL = "tests/similarity/official/test_official.py"

FAULTS = (
  Fault(
    "rows that a bank does not activate are normalized",
    "normjax/similarity/banks.py",
    "[:, None], normalized, s_qg)",
    "[:, None], s_qg, normalized)",
    f"{_OFFICIAL}::test_dynamic_inverted_softmax[1-20]",
  ),
  Fault(
    "one bank twice",
    "normjax/similarity/banks.py",
    'check_bank("gallery_bank", gallery_bank, s_qg)',
    'check_bank("gallery_bank", query_bank, s_qg)',
    f"{_OFFICIAL}::test_dual_bank_is_the_intent",
  ),
  Fault(
    "hubness of the items that are found",
    "normjax/similarity/hubs.py",
    "skewness(counts), jnp.mean(counts == 0)",
    "skewness(counts[counts > 0]), jnp.mean(counts == 0)",
    "tests/similarity/test_hubs.py::test_hubness_counts_zeros",
  ),
  Fault(
    "ties that count as found",
    "normjax/similarity/retrieval.py",
    "~(s_qg < best_q1)",
    "(s_qg > best_q1)",
    "tests/similarity/test_hubs.py"
    "::test_recall_with_ties_and_without_a_relevant_item",
  ),
  Fault(
    "a simplex in place of equiangular vectors",
    "normjax/similarity/equiangular.py",
    "jnp.abs(matrices.product(vectors_nd, vectors_nd.T))",
    "matrices.product(vectors_nd, vectors_nd.T)",
    "tests/similarity/test_equiangular.py::test_steps_equal_a_transcription",
  ),
  Fault(
    "imprinted weights of any length",
    "normjax/similarity/prototypes.py",
    "return matrices.unit(class_means(x_nd, labels, num_classes))",
    "return class_means(x_nd, labels, num_classes)",
    "tests/similarity/test_heads.py"
    "::test_imprinted_weights_are_those_of_new_classes",
  ),
  Fault(
    "proxies of any length",
    "normjax/similarity/heads/normalized_softmax.py",
    'matrices.unit_columns(params["kernel"])',
    'params["kernel"]',
    f"{_OFFICIAL}::test_normalized_softmax",
  ),
  Fault(
    "fixed vectors that drift over micro-batches",
    "normjax/train/passes.py",
    "jnp.where(same, values[0], jnp.mean(values, axis=0))",
    "jnp.mean(values, axis=0)",
    "tests/models/test_heads.py"
    "::test_the_mean_over_micro_batches_leaves_what_nothing_moves",
  ),
)
