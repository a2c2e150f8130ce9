"""Planted in what folds norms and converts models."""

from tests.faults.fault import Fault

_EQUIVALENCE = "tests/convert/test_equivalence.py"
_FOLDING = "tests/convert/test_folding.py"
_REMOVAL = "tests/convert/test_removal.py"

FAULTS = (
  Fault(
    "kernels centred along their inputs, as in the official JAX code",
    "normjax/convert/stream.py",
    "wide -= jnp.mean(wide, axis=-1, keepdims=True)",
    "wide -= jnp.mean(wide, axis=0, keepdims=True)",
    f"{_EQUIVALENCE}::test_logits_are_the_same_in_float64[gpt2]",
  ),
  Fault(
    "the last feature is dropped, and nobody told",
    "normjax/convert/linear.py",
    "kernel[:-1] - kernel[-1:]",
    "kernel[:-1]",
    f"{_EQUIVALENCE}::test_the_formulas_by_hand",
  ),
  Fault(
    "writers are centred once, and not in each call",
    "normjax/convert/centred.py",
    "streams.centred(attributes[name][...])",
    "attributes[name][...]",
    f"{_EQUIVALENCE}::test_a_step_on_the_fly_is_that_of_pre_ln[sgd]",
  ),
  Fault(
    "an offset past the constant of its block",
    "normjax/convert/folding.py",
    "beside.factor * offset",
    "offset",
    f"{_FOLDING}::test_outputs_stay_and_nothing_is_slower[input factors]",
  ),
  Fault(
    "a fold that changes what the next norm takes its statistic from",
    "normjax/nn/block.py",
    "obstacle = _HANDED_ON",
    'obstacle = ""',
    f"{_FOLDING}::test_outputs_stay_and_nothing_is_slower[bhyt]",
  ),
  Fault(
    "end tokens in the average deviation of the others",
    "normjax/norms/fake_layer_norm.py",
    'moved("std", ~(first | end))',
    'moved("std", ~first)',
    f"{_REMOVAL}::test_averages_are_of_real_tokens_that_are_not_special",
  ),
  Fault(
    "values lose their norm with queries and keys",
    "normjax/nn/paths.py",
    "context=site._replace(path=path)",
    "context=site",
    f"{_REMOVAL}::test_values_keep_their_norm_while_queries_and_keys_have_lost_it",
  ),
  Fault(
    "a removal's schedule may outlast its run",
    "normjax/train/program.py",
    "num_steps=None if resumes else config.train.num_steps,",
    "num_steps=None,",
    "tests/train/test_removal.py"
    "::test_a_schedule_that_outlasts_the_run_is_refused[remove_norms]",
  ),
)
