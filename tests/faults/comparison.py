"""Planted in what a sweep decides and a report says."""

from tests.faults.fault import Fault

FAULTS = (
  # ----- Sweeps -----
  Fault(
    "seeds that are not paired",
    "normjax/sweep/plan.py",
    'self._point("final", label, values, seed)',
    'self._point("final", label, values, seed + len(methods))',
    "tests/sweep/test_plan.py::test_without_tuning_every_method_has_every_seed",
  ),
  Fault(
    "a default that resolved configs leave out is nothing",
    "normjax/sweep/resolve.py",
    "if path not in flat:",
    "if False:",
    "tests/sweep/test_resolve.py"
    "::test_a_leaf_at_a_default_that_is_left_out_stays_out[linear-heads0]",
  ),
  Fault(
    "a bench that times the last peer under all names",
    "normjax/bench/torch_peers.py",
    "step = self.made[peer]",
    "step = self.made[-1]",
    "tests/bench/test_adapt.py"
    "::test_models_of_pytorch_are_timed_each_under_its_name",
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
    "[best[label], *own]",
    "[best[label]]",
    "tests/sweep/test_search.py::test_the_second_pass_finds_what_lies_between",
  ),
  Fault(
    "choice of another seed",
    "normjax/record/comparison.py",
    "if choice.for_seed in (seed, None):",
    "if choice.for_seed is not seed:",
    "tests/sweep/test_plan_per_seed.py::test_tuning_is_repeated_for_each_final_seed",
  ),
  Fault(
    "rate the wrong way round",
    "normjax/sweep/rows.py",
    "widths[at] / width}",
    "width / widths[at]}",
    "tests/sweep/test_ladder.py"
    "::test_by_width_without_tuning_the_configs_own_rate",
  ),
  Fault(
    "baseline of another rung",
    "normjax/report/load.py",
    "return self.rungs.beside(label, self.baseline)",
    "return self.baseline",
    "tests/report/test_ladder.py"
    "::test_rows_are_compared_at_their_own_rung_and_each_counts_once",
  ),
  Fault(
    "speed-up upside down",
    "normjax/report/ladder.py",
    "return np.log(needed_rk / budgets_k)",
    "return np.log(budgets_k / needed_rk)",
    "tests/report/test_ladder.py::test_known_speed_ups_and_trends",
  ),
  Fault(
    "mode of the metric",
    "normjax/sweep/tuner.py",
    'return value if sweep.mode == "min" else -value',
    "return value",
    "tests/sweep/test_plan_tuning.py::test_the_mode_turns_the_order_around",
  ),
  Fault(
    "lock that is shared",
    "normjax/record/lock.py",
    "fcntl.LOCK_EX | (",
    "fcntl.LOCK_SH | (",
    "tests/reproduce/test_expected.py"
    "::test_of_two_calls_at_once_one_writes_what_is_expected",
  ),
  Fault(
    "lease of a launcher that works",
    "normjax/record/lease.py",
    "return self._observer.is_gone(lease.launcher)",
    "return True",
    "tests/record/test_lease.py::test_one_has_it_until_it_gives_it_back",
  ),
  Fault(
    "lease that a clock ends",
    "normjax/record/heartbeat.py",
    "seen_s += min(now_s - last_s, _MOST_SEEN_S)",
    "seen_s += now_s - last_s",
    "tests/record/test_lease.py"
    "::test_time_in_which_it_did_not_look_does_not_count",
  ),
  Fault(
    "result of a worker that was passed over",
    "normjax/record/lease.py",
    "if last.launcher.token != token or",
    "if",
    "tests/record/test_lease.py::test_who_was_taken_over_writes_no_result",
  ),
  Fault(
    "GPU that two workers have",
    "normjax/sweep/devices.py",
    "first = slot % self.num_groups * size",
    "first = 0",
    "tests/sweep/test_devices.py::test_each_worker_sees_its_own",
  ),
  Fault(
    "run in another run's directory",
    "normjax/train/entry.py",
    "  _check_owners(runs)\n  results",
    "  results",
    "tests/train/test_interrupt.py"
    "::test_another_run_s_directory_is_refused[True]",
  ),
  Fault(
    "stranger among the processes of a run",
    "normjax/train/processes/door.py",
    "isinstance(given, str) and hmac",
    "isinstance(given, str) or hmac",
    "tests/train/processes/test_door.py"
    "::test_a_proof_is_of_what_was_drawn_and_said",
  ),
  Fault(
    "GPU that two launchers have",
    "normjax/sweep/device_locks.py",
    "(fcntl.LOCK_SH if shared else fcntl.LOCK_EX)",
    "fcntl.LOCK_SH",
    "tests/sweep/test_device_locks.py::test_what_one_has_another_does_not_get",
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
    "normjax/statistics/intervals.py",
    "t_quantile(n - 1, 1 - ALPHA / 2)",
    "t_quantile(n - 1, 1 - ALPHA)",
    "tests/statistics/test_intervals.py::test_interval_of_three",
  ),
  Fault(
    "order of Holm's method",
    "normjax/statistics/correction.py",
    "largest = max(largest, (count - rank) * p_values[index])",
    "largest = max(largest, (rank + 1) * p_values[index])",
    "tests/statistics/test_intervals.py::test_holm",
  ),
  Fault(
    "verdicts for one comparison each",
    "normjax/report/verdicts.py",
    "statistics.holm([found[k].p_value for k in tested], len(found))",
    "[found[k].p_value for k in tested]",
    "tests/report/test_stats.py"
    "::test_verdicts_are_corrected_for_the_number_of_comparisons",
  ),
  Fault(
    "differences that are none",
    "normjax/statistics/intervals.py",
    "((1.0, values), (-1.0, baseline)), resolution_sd(resolution)",
    "((1.0, values), (0.0, baseline)), resolution_sd(resolution)",
    "tests/statistics/test_intervals.py::test_paired_difference_by_hand",
  ),
  Fault(
    "ranks of ties",
    "normjax/statistics/signed_rank.py",
    "ranks = (2 * last - count + 1)[code]",
    "ranks = (2 * last)[code]",
    "tests/statistics/test_signed_rank.py"
    "::test_equals_all_signs_with_ties_zeros_and_infinities",
  ),
  Fault(
    "rounding of one value, not two",
    "normjax/statistics/intervals.py",
    "return resolution / math.sqrt(6)",
    "return resolution / math.sqrt(12)",
    "tests/statistics/test_intervals.py"
    "::test_least_spread_is_that_of_two_roundings",
  ),
  Fault(
    "noise floor of other seeds than there are",
    "normjax/statistics/noise.py",
    "math.sqrt(size / n)",
    "math.sqrt(n / size)",
    "tests/statistics/test_noise.py::test_by_hand",
  ),
  Fault(
    "seeds needed for one comparison",
    "normjax/statistics/power.py",
    "tail = ALPHA / (2 * num_comparisons)",
    "tail = ALPHA / 2",
    "tests/statistics/test_power.py::test_seeds_needed_have_the_power[13-0.5]",
  ),
  Fault(
    "range of seeds upside down",
    "normjax/statistics/power.py",
    "_seeds(effect / end, num_comparisons)",
    "_seeds(effect * end, num_comparisons)",
    "tests/statistics/test_power.py"
    "::test_the_range_holds_the_right_number_in_95_percent",
  ),
  Fault(
    "survivors that are tested",
    "normjax/report/verdicts.py",
    "  if lost:\n    return Difference(interval, sign=sign,",
    "  if not interval.n:\n    return Difference(interval, sign=sign,",
    "tests/report/test_verdicts.py::test_survivors_are_tested_by_nothing",
  ),
  Fault(
    "a front of the worst",
    "normjax/report/plots/pareto.py",
    "if sign * y < best or equal:",
    "if sign * y > best or equal:",
    "tests/report/test_pareto.py::test_better_may_be_larger",
  ),
  Fault(
    "bytes of another program",
    "normjax/sweep/costs.py",
    'elif entry["fingerprint"] != fingerprint(config):',
    'elif entry["fingerprint"] == "":',
    "tests/sweep/test_costs.py::test_what_is_missing_is_named",
  ),
  Fault(
    "memory that is counted twice",
    "kernels_pallas/aot/compiling.py",
    "fresh_bytes = self.output_bytes - self.alias_bytes",
    "fresh_bytes = self.output_bytes",
    "tests/bench/test_memory.py::test_bytes_of_each_method",
  ),
  Fault(
    "all branches at once",
    "kernels_pallas/aot/hlo.py",
    "total += choose(called) if is_choice else sum(called)",
    "total += sum(called)",
    "tests/kernels_pallas/aot/test_hlo.py"
    "::test_of_a_conditional_one_branch_runs",
  ),
  Fault(
    "divergence that ranks best",
    "normjax/report/verdicts.py",
    'worst = math.inf if sweep.mode == "min" else -math.inf',
    'worst = -math.inf if sweep.mode == "min" else math.inf',
    "tests/report/test_verdicts.py::test_divergence_as_the_worst_rank[min]",
  ),
  Fault(
    "seeds of one fold that count apart",
    "normjax/report/samples.py",
    "own.setdefault(units[seed], [])",
    "own.setdefault(seed, [])",
    "tests/report/test_verdicts.py::test_seeds_of_one_fold_are_one_sample",
  ),
  Fault(
    "error of the samples, not of the seeds",
    "normjax/report/resample.py",
    "error = math.sqrt(variance * n / (n - 1))",
    "error = math.sqrt(variance)",
    "tests/report/test_curve.py"
    "::test_of_a_mean_the_interval_is_the_t_interval[3]",
  ),
  Fault(
    "floor of a curve",
    "normjax/report/curve.py",
    "self.levels_r - self.drops_r / exponents_r",
    "self.levels_r - self.drops_r * exponents_r",
    "tests/report/test_curve.py"
    "::test_a_curve_is_recovered_and_inverted[budgets0-1.3-0.4]",
  ),
  Fault(
    "any small change is none",
    "normjax/report/ladder.py",
    "max(above, 1 - below)",
    "min(above, 1 - below)",
    "tests/report/test_ladder.py"
    "::test_what_stays_is_told_from_the_margin_on_both_sides[0.2]",
  ),
  Fault(
    "trend for one method each",
    "normjax/report/ladder.py",
    "statistics.holm([_or_one(trend.p_value) for trend in trends])",
    "[_or_one(trend.p_value) for trend in trends]",
    "tests/report/test_ladder.py::test_known_speed_ups_and_trends",
  ),
  Fault(
    "points that are not spread over ratios",
    "normjax/sweep/search/quasi_random.py",
    "low * (high / low) ** unit if low > 0 else low",
    "low",
    "tests/sweep/test_search.py"
    "::test_quasi_random_points_lie_between_limits_and_are_equally_many",
  ),
  Fault(
    "descent that forgets what it found",
    "normjax/sweep/search/coordinate.py",
    "          best[label] = chosen[label]\n",
    "",
    "tests/sweep/test_search.py"
    "::test_coordinate_descent_goes_from_axis_to_axis",
  ),
  Fault(
    "simulated growth on one's own",
    "normjax/simulate/runs.py",
    "grows = on_edge.any(-1, keepdims=True)",
    "grows = on_edge",
    "tests/simulate/test_runs.py"
    "::test_it_chooses_what_the_planner_chooses[per_seed-3-3-True]",
  ),
  Fault(
    "simulated effects that are noise",
    "normjax/simulate/runs.py",
    "loss = level + random",
    "loss = random",
    "tests/simulate/test_sweeps.py"
    "::test_power_without_tuning_is_that_of_a_paired_t_test",
  ),
  Fault(
    "runs at fault for what their cluster does",
    "normjax/sweep/launch.py",
    "if has_begun and (is_preempted or self.stopping()):",
    "if has_begun and self.stopping():",
    "tests/sweep/test_launcher.py"
    "::test_what_a_place_takes_back_counts_no_attempt",
  ),
  Fault(
    "requeued jobs that nobody listens to",
    "normjax/sweep/slurm/job.py",
    "self._done = self._start = word.number",
    "self._done = word.number",
    "tests/sweep/test_slurm.py"
    "::test_a_requeued_job_counts_from_the_word_that_it_finds",
  ),
)
