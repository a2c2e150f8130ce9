"""Planted in what a run is made of: layers, steps, data."""

from tests.faults.fault import Fault

FAULTS = (
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
    "kernels_pallas/attention/ref.py",
    "np.tri(stop - start, keys, start, bool)",
    "np.tri(stop - start, keys, start + 1, bool)",
    "tests/nn/test_mixing.py::TestMixing::test_equals_the_transcription"
    "[softmax0]",
  ),
  Fault(
    "scale of the scores",
    "kernels_pallas/attention/ref.py",
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
  Fault(
    "queries, keys and values of all heads, not by head",
    "normjax/convert/architectures/gpt_neox.py",
    '"weight": ("kernel", "(h n k) d -> n d h k")',
    '"weight": ("kernel", "(n h k) d -> n d h k")',
    "tests/convert/test_decoders.py"
    "::test_logits_are_those_of_transformers[gpt_neox]",
  ),
  # ----- Training -----
  Fault(
    "lost carry of a scan",
    "normjax/train/passes.py",
    "return jax.tree.map(jnp.add, summed, summable), each",
    "return summable, each",
    "tests/train/test_step.py::test_accumulated_gradients_are_the_whole_batchs",
  ),
  Fault(
    "gradient clipping",
    "normjax/train/step.py",
    "(clip > 0) & (clip_norm > clip)",
    "(clip > 0) & (clip_norm < clip)",
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
    "a first step of rate zero after a restart",
    "normjax/train/cosine_restarts.py",
    "(since + 1) / jnp.maximum(rise, 1)",
    "since / jnp.maximum(rise, 1)",
    "tests/train/test_schedules.py"
    "::test_cosine_restarts_is_the_official_one[1]",
  ),
  Fault(
    "resume off by one",
    "normjax/train/lane.py",
    "self.step = int(state.step)",
    "self.step = int(state.step) + (restored is not None)",
    "tests/train/test_loop.py"
    "::test_a_damaged_checkpoint_falls_back_to_the_one_before",
  ),
  Fault(
    "oldest checkpoint is used",
    "normjax/train/checkpoint.py",
    "sorted(steps, reverse=True)",
    "sorted(steps)",
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
    "was[_KEY] != now.get(_KEY)",
    "was.keys() != now.keys()",
    "tests/train/test_own_data.py"
    "::test_a_run_stays_with_the_data_that_it_began_with",
  ),
  Fault(
    "runs that all measure what validates",
    "normjax/train/lane.py",
    "self.evaluated = build.evaluation_dataset(config)",
    "self.evaluated = self.dataset",
    "tests/runs/test_run.py::test_a_run_evaluates_on_the_split_of_its_config",
  ),
  Fault(
    "what tunes is trained on",
    "normjax/data/folds.py",
    "(folds != fold) & (folds != tunes)",
    "(folds != fold)",
    "tests/data/test_folds.py"
    "::test_each_example_validates_at_one_seed_and_tunes_at_another",
  ),
  Fault(
    "depth that is not under a root",
    "normjax/nn/initial.py",
    "gain / math.sqrt(depth(index, num_layers))",
    "gain / depth(index, num_layers)",
    "tests/nn/test_initial.py"
    "::test_each_placements_own_start_is_its_sources[pre]",
  ),
  Fault(
    "gain behind a matrix lost",
    "normjax/nn/scale_vectors.py",
    "    if not self.outputs:\n      return y\n",
    "    return y\n",
    "tests/nn/test_scale_vectors.py::test_gains_add_no_function[plain]",
  ),
  Fault(
    "stream that does not go to the branch",
    "normjax/nn/residual_branch.py",
    "    y = y - base\n",
    "    y = y + base\n",
    "tests/nn/test_placement.py"
    "::test_each_placement_is_its_formula[normalized_stream-2.05]",
  ),
  Fault(
    "trials that train on what their final run is measured on",
    "normjax/data/folds.py",
    "return seed % PERIOD % num_folds",
    "return seed % num_folds",
    "tests/data/test_folds.py"
    "::test_trials_never_see_what_their_final_run_is_measured_on[3]",
  ),
  Fault(
    "overlap that is not seen",
    "normjax/data/cuts.py",
    "min(end, last) - max(begin, first)",
    "min(end, last) - max(end, last)",
    "tests/data/test_named.py"
    "::test_splits_that_overlap_are_refused[options0-4]",
  ),
)
