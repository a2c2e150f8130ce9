"""Planted faults: one per kind, each with a test that must fail of it.

A fault replaces `old`, which its file has once, by `new`. The test is short,
and no other than that kind's own.
"""

import dataclasses

NORMS = "tests/norms/test_contract.py::TestNorm"
OPTIM = "tests/optim/test_contract.py"


@dataclasses.dataclass(frozen=True)
class Fault:
  """What is broken, how, and what must notice.

  Attributes:
    name: of the kind.
    path: the file, from the checkout's root.
    old: a piece of its text.
    new: what takes its place.
    test: node id of the test that must fail.
  """

  name: str
  path: str
  old: str
  new: str
  test: str

  def __str__(self) -> str:
    return self.name


FAULTS = (
  # ----- Norms -----
  Fault(
    "axis of a length",
    "normjax/norms/scale_norm.py",
    "square = jnp.sum(wide * wide, axis=-1, keepdims=True)",
    "square = jnp.sum(wide * wide, axis=-2, keepdims=True)",
    f"{NORMS}::test_equals_reference_in_float64[scale_norm]",
  ),
  Fault(
    "place of epsilon",
    "normjax/norms/running.py",
    "r = lax.rsqrt(batch.variance + eps)",
    "r = 1 / (jnp.sqrt(batch.variance) + eps)",
    f"{NORMS}::test_equals_reference_in_float64[batch_norm]",
  ),
  Fault(
    "dtype of an accumulation",
    "normjax/norms/moments.py",
    "  return x.astype(jnp.promote_types(x.dtype, jnp.float32))",
    "  return x",
    f"{NORMS}::test_statistics_in_float32"
    "[bfloat16-group_norm-num_groups=2-eps=0.1]",
  ),
  Fault(
    "mask of a mean ignored",
    "normjax/norms/moments.py",
    "jnp.sum(jnp.where(mask, x, 0), axis=tuple(axes), keepdims=True)",
    "jnp.sum(x, axis=tuple(axes), keepdims=True)",
    f"{NORMS}::test_mask[batch_norm]",
  ),
  Fault(
    "biased variance is kept",
    "normjax/norms/running.py",
    "return self.variance * (self.size / jnp.maximum(self.size - 1, 1))",
    "return self.variance",
    f"{NORMS}::test_equals_reference_in_float64[batch_norm]",
  ),
  Fault(
    "momentum swapped",
    "normjax/norms/running.py",
    "momentum * old + (1 - momentum) * values",
    "(1 - momentum) * old + momentum * values",
    f"{NORMS}::test_equals_reference_in_float64[batch_norm]",
  ),
  Fault(
    "term of a backward pass lost",
    "normjax/norms/running.py",
    "centered = wide - dbias / count - normalized * (dscale / count)",
    "centered = wide - dbias / count",
    f"{NORMS}::test_gradients[batch_norm]",
  ),
  Fault(
    "options left out of equality",
    "normjax/norms/base.py",
    "options: Mapping[str, Any] = dataclasses.field(hash=False)",
    "options: Mapping[str, Any] = dataclasses.field(compare=False)",
    f"{NORMS}::test_is_a_value[frn-eps=0.1-learned_eps=True]",
  ),
  Fault(
    "method that equals no other",
    "normjax/norms/scale_norm.py",
    "apply_fn=_apply",
    "apply_fn=lambda *args, **options: _apply(*args, **options)",
    f"{NORMS}::test_is_a_value[scale_norm]",
  ),
  # ----- Optimizers -----
  Fault(
    "dtype of a moment ignored",
    "normjax/optim/lion.py",
    "optax.scale_by_lion(b1, b2), mu=mu_dtype",
    "optax.scale_by_lion(b1, b2), mu=None",
    f"{OPTIM}::TestOptimizer::test_moment_dtypes[lion]",
  ),
  Fault(
    "sign of a step",
    "normjax/optim/compose.py",
    "[-rate * u for u in flat]",
    "[rate * u for u in flat]",
    f"{OPTIM}::TestOptimizer::test_converges[apollo_mini]",
  ),
  Fault(
    "bias correction of the step before",
    "normjax/optim/safe.py",
    "jnp.expm1(jnp.asarray(count, dtype) * log)",
    "jnp.expm1((jnp.asarray(count, dtype) + 1) * log)",
    "tests/optim/test_safe.py::test_bias_correction[0.9]",
  ),
  Fault(
    "decay of biases",
    "normjax/optim/groups.py",
    r"(bias|\w+_bias|scale|gain",
    "(scale|gain",
    f"{OPTIM}::TestComposition::test_mask_picks_what_decays[adamw]",
  ),
  Fault(
    "mask of the decay ignored",
    "normjax/optim/swan.py",
    "    mask=mask,\n",
    "    mask=None,\n",
    f"{OPTIM}::TestOptimizer"
    "::test_decay_is_of_the_leaves_of_the_mask[swan-preset=inexact]",
  ),
  Fault(
    "option of the fallback lost",
    "normjax/optim/routed.py",
    "for k, v in values.items() if getattr(self, k) is None}",
    "for k, v in values.items()}",
    f"{OPTIM}::TestOptimizer::test_scalars_are_traced[sinkgd]",
  ),
  Fault(
    "fallback and matrices swapped",
    "normjax/optim/compose.py",
    "{method: matrices, FALLBACK: fallback}",
    "{method: fallback, FALLBACK: matrices}",
    "tests/optim/test_muon.py::test_learning_rate_of_the_fallback",
  ),
  Fault(
    "ratio of the decay lost",
    "normjax/optim/adamp.py",
    "(p + weight_decay * ratio * w if decayed else p)",
    "(p + weight_decay * w if decayed else p)",
    f"{OPTIM}::test_equals_reference[adamp-weight_decay=0.3-float64]",
  ),
  Fault(
    "bound of an option lost",
    "normjax/optim/racs.py",
    "validate.scalars(method, gamma=gamma)",
    "validate.scalars(method)",
    f"{OPTIM}::TestOptimizer::test_bad_options[racs]",
  ),
  Fault(
    "bins of 8 bits",
    "normjax/optim/blockwise.py",
    "_boundaries(2**i if signed else 2 ** (i + 1))",
    "_boundaries(2 ** (i + 1) if signed else 2**i)",
    "tests/optim/test_blockwise.py::test_signed_map",
  ),
  Fault(
    "outputs that are compared with themselves",
    "normjax/optim/scale_invariance.py",
    "base = jnp.where(row[0] < 0, y, base)",
    "base = y",
    "tests/optim/test_scale_invariance.py"
    "::test_outputs_in_their_standard_deviations",
  ),
  # ----- Layers -----
  Fault(
    "sign of a rotation",
    "normjax/nn/rotary.py",
    "[first * cosine - second * sine, second * cosine + first * sine]",
    "[first * cosine + second * sine, second * cosine - first * sine]",
    "tests/nn/test_attention.py::test_equals_a_float64_transcription"
    "[num_kv_heads-]",
  ),
  Fault(
    "causal mask off by one",
    "normjax/nn/mixing/softmax.py",
    "np.tri(stop - start, keys, start, bool)",
    "np.tri(stop - start, keys, start + 1, bool)",
    "tests/nn/test_mixing.py::TestMixing::test_equals_the_transcription"
    "[softmax0]",
  ),
  Fault(
    "scale of the scores",
    "normjax/nn/mixing/softmax.py",
    "1 / math.sqrt(k) if scale is None else scale",
    "1 / k if scale is None else scale",
    "tests/nn/test_mixing.py::TestMixing::test_equals_the_transcription"
    "[softmax0]",
  ),
  Fault(
    "constant of a folded bias",
    "normjax/nn/folding.py",
    "shift += bias.astype(shift.dtype)",
    "shift -= bias.astype(shift.dtype)",
    "tests/nn/test_folding.py::test_modes_are_the_papers_formulas[bias-tune]",
  ),
  # ----- Training -----
  Fault(
    "lost carry of a scan",
    "normjax/train/step.py",
    "return jax.tree.map(jnp.add, summed, summable), each",
    "return summable, each",
    "tests/train/test_step.py::test_accumulated_gradients_are_the_whole_batchs",
  ),
  Fault(
    "gradient clipping",
    "normjax/train/step.py",
    "(clip > 0) & (gradient_norm > clip)",
    "(clip > 0) & (gradient_norm < clip)",
    "tests/train/test_step.py"
    "::test_clipping_bounds_the_gradient_and_zero_turns_it_off",
  ),
  Fault(
    "label smoothing",
    "normjax/objectives/cross_entropy.py",
    "label_smoothing * (smooth - nll)",
    "label_smoothing * smooth",
    "tests/objectives/test_cross_entropy.py::test_equals_a_float64_transcription",
  ),
  Fault(
    "padding in the loss",
    "normjax/objectives/cross_entropy.py",
    '"objective": jnp.sum(weight * objective),',
    '"objective": jnp.sum(objective),',
    "tests/objectives/test_cross_entropy.py::test_padding_counts_for_nothing",
  ),
  Fault(
    "padding in a metric",
    "normjax/metrics/base.py",
    "jnp.where(weight > 0, weight * values",
    "jnp.where(weight >= 0, values",
    "tests/objectives/test_metrics.py"
    "::test_a_function_from_outside_is_a_metric_of_its_name",
  ),
  Fault(
    "evaluation at the trained parameters",
    "normjax/train/step.py",
    "optim.evaluation_params(state.optimizer_state, trained)",
    "trained",
    "tests/optim/test_evaluation.py"
    "::test_an_evaluation_uses_them[schedule_free]",
  ),
  Fault(
    "auxiliary losses are not minimized",
    "normjax/objectives/base.py",
    "      sums[MINIMIZED] += sums[name]\n",
    "",
    "tests/objectives/test_training.py::test_a_model_returns_more_than_logits",
  ),
  Fault(
    "schedule off by one",
    "normjax/train/schedules.py",
    "(step + 1) / jnp.maximum(warmup_steps, 1.0)",
    "step / jnp.maximum(warmup_steps, 1.0)",
    "tests/train/test_schedules.py"
    "::test_warmup_rises_linearly_from_the_first_step",
  ),
  Fault(
    "resume off by one",
    "normjax/train/lane.py",
    "self.step = int(self.state.step)",
    "self.step = int(self.state.step) + (restored is not None)",
    "tests/train/test_loop.py"
    "::test_a_damaged_checkpoint_falls_back_to_the_one_before",
  ),
  Fault(
    "oldest checkpoint is used",
    "normjax/train/checkpoint.py",
    "sorted(self._manager.all_steps(), reverse=True)",
    "sorted(self._manager.all_steps())",
    "tests/train/test_loop.py"
    "::test_a_damaged_checkpoint_falls_back_to_the_one_before",
  ),
  Fault(
    "order of the start's steps",
    "normjax/nn/start.py",
    "  for step in steps:\n    with _naming(step):\n      before",
    "  for step in reversed(steps):\n    with _naming(step):\n      before",
    "tests/nn/test_start.py"
    "::test_steps_are_taken_in_order_and_change_no_argument",
  ),
  Fault(
    "a start's structure left out of the program's key",
    "normjax/build.py",
    "static |= {_START: changes} if changes else {}",
    "static |= {}",
    "tests/train/test_start.py"
    "::test_steps_that_change_the_structure_are_in_the_programs_key",
  ),
  # ----- Data and random numbers -----
  Fault(
    "streams that are one",
    "normjax/rng.py",
    "jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))",
    "jax.random.fold_in(jax.random.key(seed), 0)",
    "tests/test_rng.py::test_streams_seeds_and_steps_are_all_different",
  ),
  Fault(
    "targets that are the inputs",
    "normjax/data/tokens.py",
    '"targets": window[:, 1:],',
    '"targets": window[:, :-1],',
    "tests/data/test_tokens.py"
    "::test_targets_follow_inputs_and_lie_in_the_training_text",
  ),
  Fault(
    "splits that go by what stands beside a file",
    "normjax/data/folder_layout.py",
    'splits.shares(key.encode(errors="surrogateescape") for key in keys)',
    "splits.index_shares(len([*keys]))",
    "tests/data/test_image_folder.py::test_files_that_are_added_move_no_other",
  ),
  Fault(
    "a run that goes on with other data",
    "normjax/train/data_change.py",
    "was[_KEY] == now.get(_KEY)",
    "was.keys() == now.keys()",
    "tests/train/test_own_data.py"
    "::test_a_run_stays_with_the_data_that_it_began_with",
  ),
  # ----- Sweeps -----
  Fault(
    "seeds that are not paired",
    "normjax/sweep/plan.py",
    'self._point("final", label, values, seed)',
    'self._point("final", label, values, seed + len(methods))',
    "tests/sweep/test_plan.py::test_without_tuning_every_method_has_every_seed",
  ),
  Fault(
    "choice of tuning",
    "normjax/sweep/tune.py",
    "return min(tried, key=rank)",
    "return max(tried, key=rank)",
    "tests/sweep/test_tune.py::test_best_is_lowest_then_diverged_then_failed",
  ),
  Fault(
    "second pass that decides nothing",
    "normjax/sweep/search/second_pass.py",
    "[best[label], *_trials(best[label], own)]",
    "[best[label]]",
    "tests/sweep/test_search.py::test_the_second_pass_finds_what_lies_between",
  ),
  Fault(
    "choice of another seed",
    "normjax/record/comparison.py",
    "if choice.for_seed in (seed, None):",
    "if choice.for_seed is not seed:",
    "tests/sweep/test_plan.py::test_tuning_is_repeated_for_each_final_seed",
  ),
  Fault(
    "mode of the metric",
    "normjax/sweep/tuner.py",
    'return value if sweep.mode == "min" else -value',
    "return value",
    "tests/sweep/test_plan.py::test_the_mode_turns_the_order_around",
  ),
  Fault(
    "lock that is shared",
    "normjax/record/lock.py",
    "fcntl.LOCK_EX | fcntl.LOCK_NB",
    "fcntl.LOCK_SH | fcntl.LOCK_NB",
    "tests/sweep/test_launch.py::test_a_directory_in_use_is_refused",
  ),
  Fault(
    "newest word about a run",
    "normjax/record/directory.py",
    "state = self._state(status, attempts[-1] if attempts else None)",
    "state = self._state(status, attempts[0] if attempts else None)",
    "tests/record/test_directory.py::test_the_state_of_a_run",
  ),
  Fault(
    "result of another run",
    "normjax/record/directory.py",
    "    if owner != self.run_id:",
    "    if not owner:",
    "tests/report/test_damage.py"
    "::test_the_sweep_and_the_report_give_one_answer",
  ),
  Fault(
    "leaf that another follows",
    "normjax/sweep/resolve.py",
    "    if moved - {path}:",
    "    if not moved:",
    "tests/sweep/test_resolve.py"
    "::test_a_leaf_that_follows_another_does_so_here",
  ),
  Fault(
    "one retry too few",
    "normjax/sweep/launch.py",
    "again = retry and count <= self._retries",
    "again = retry and count < self._retries",
    "tests/sweep/test_launcher.py::test_a_retry_waits_for_its_turn",
  ),
  Fault(
    "points lost with their slot",
    "normjax/sweep/launch.py",
    "self.pending += [p for p in slot.points.values() if p not in blamed]",
    "self.pending += []",
    "tests/sweep/test_launcher.py::"
    "test_what_a_slot_was_at_when_it_died_is_tried_again",
  ),
  Fault(
    "edited part that counts as done",
    "normjax/record/sources.py",
    "  return modules if left else []",
    "  return []",
    "tests/sweep/test_code_changes.py::test_an_edited_norm_is_not_done",
  ),
  # ----- Reports -----
  Fault(
    "quantile of the interval",
    "normjax/report/stats.py",
    "  t = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)",
    "  t = special.stdtrit(n - 1, CONFIDENCE)",
    "tests/report/test_stats.py::test_interval_of_three",
  ),
  Fault(
    "order of Holm's method",
    "normjax/report/stats.py",
    "largest = max(largest, (len(p_values) - rank) * p_values[index])",
    "largest = max(largest, (rank + 1) * p_values[index])",
    "tests/report/test_stats.py::test_holm",
  ),
  Fault(
    "verdicts for one comparison each",
    "normjax/report/stats.py",
    "p_holm >= 1 - CONFIDENCE",
    "row.difference.p_value >= 1 - CONFIDENCE",
    "tests/report/test_stats.py"
    "::test_verdicts_are_corrected_for_the_number_of_comparisons",
  ),
  Fault(
    "differences that are none",
    "normjax/report/stats.py",
    "mean_interval([values[s] - baseline[s] for s in seeds])",
    "mean_interval([values[s] for s in seeds])",
    "tests/report/test_stats.py::test_paired_difference_by_hand",
  ),
)
