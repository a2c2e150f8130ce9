"""The notes beneath the table: what its columns, words and marks mean."""

from collections.abc import Sequence

from normjax.report import stats, verdicts
from normjax.report.load import SweepRecord
from normjax.report.samples import resolution
from normjax.statistics import ALPHA, resolution_sd

DIVERGED_MARK = "†"
EDGE_MARK = "‡"
DEAD_MARK = "§"

# Of columns that a narrow table leaves out.
SEEDS_NEEDED = (
  " Seeds needed: for 80% power after the adjustment if the mean difference is"
  " as observed, for the 95% range of its spread; from 5 seeds on."
)
EXACT = (
  "p is of the exact signed-rank test over all seeds: a diverged run is the"
  " worst value that there is, and two that diverged are a tie. A method with"
  " diverged runs may be worse by it, and is never better."
)
EDGE = (
  f"{EDGE_MARK} The best value lies on an edge of its grid: a better one may"
  " lie beyond."
)
TUNED = "Tuned values are those of the final seeds"
TIMES = (
  "Train s: mean over seeds, without compilation and evaluation. Compile s: of"
  " the program, by whichever run compiled it first."
)

COMPUTE = (
  "Forwards/step: the products of a step in those of a forward pass of the"
  " model on its batch; a backward pass is two. Where they differ, equal steps"
  " are equal data and not equal compute."
)
SPEED = (
  "MFU: the products of a step (with backpropagation 3 times the products of a"
  " forward pass), per second of the median step, over the most that the"
  " devices' vendor states, of which a member of a population has its share."
  " Peak memory: of a device, since its process began, with whatever ran there"
  " before."
)


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """What a reader must know to read the table, in sentences."""
  notes = []
  seeds = verdicts.attainable(sweep)
  if seeds is not None and not seeds.can_decide:
    notes.append(str(seeds))
  notes += [
    "Mean over seeds ± half the 95% t-interval;"
    + (" smaller" if sweep.mode == "min" else " larger")
    + " is better."
  ]
  if (repeated := verdicts.repeated_folds(sweep)) is not None:
    seeds, folds = repeated
    notes.append(
      f"Cross-validated: {seeds} seeds have {folds} folds. Seeds of one fold"
      " are measured on the same examples and count once, by their mean: n"
      " counts folds."
    )
  compared = [r for r in rows if r.difference]
  tested = any(r.difference.p_holm is not None for r in compared)
  if tested:
    notes.append(
      f"Difference to {sweep.baseline_name} over common seeds, paired, with its"
      " unadjusted 95% t-interval; better or worse where p (Holm) is below"
      f" {ALPHA}, else not distinguishable."
      + ("" if verdicts.is_exact(sweep) else SEEDS_NEEDED)
    )
    if verdicts.is_exact(sweep):
      notes.append(EXACT)
  if tested and len(compared) > 1:
    lost = [r.label for r in compared if r.verdict != r.verdict_uncorrected]
    notes.append(
      f"{len(compared)} comparisons were made; verdicts and p (Holm) are"
      " adjusted for that, intervals are not."
      + (
        f" Undecided by the adjustment alone: {', '.join(lost)}."
        if lost
        else ""
      )
    )
  if any(r.reached for r in rows):
    notes.append(
      "Reached: how many of the runs that are over reached the target. How long"
      " the others would need is not known, so there is no mean and no"
      " difference; the median is over all, where more than half reached it."
    )
  notes += _notes_on_spread(sweep, compared)
  survivors = [r for r in rows if r.diverged and r.interval.n]
  if survivors:
    said = ", ".join(
      f"{r.label} {len(r.diverged)} of {r.over}" for r in survivors
    )
    tested = "the test is over all seeds, as far as they ended"
    if not verdicts.is_exact(sweep):
      tested = "nothing is tested on them"
    notes.append(
      f"{DIVERGED_MARK} Diverged: {said}. Mean and difference are over the"
      f" survivors only, which flatters; {tested}."
    )
  dead = [r for r in rows if r.gradient_zero]
  if dead:
    since = "; ".join(
      f"{row.label}, seed {seed}: from step {step:,}"
      for row in dead
      for seed, step in row.gradient_zero.items()
    )
    notes.append(
      f"{DEAD_MARK} The gradient was exactly 0 up to the end while the loss was"
      f" not: nothing was learned any more. {since}."
    )
  repeated = [t.for_seed for t in sweep.tunings if t.for_seed is not None]
  if len(repeated) > 1:
    which = ", ".join(map(str, repeated))
    notes.append(
      f"{TUNED} {which}, in this order; one value stands for all. Trials are"
      " those of all their tunings."
    )
  edges = [r.method.edges() for r in rows if r.method.on_edge]
  if edges:
    which = f" Here: {', '.join(edges)}." if repeated else ""
    notes.append(EDGE + which)
  notes.append(TIMES)
  if differ_in_compute(rows):
    notes.append(COMPUTE)
  if any(row.mfu is not None for row in rows):
    notes.append(SPEED)
  if sweep.costs is not None and sweep.costs.methods:
    notes.append(_of_costs(sweep))
  return notes


def differ_in_compute(rows: Sequence[stats.Row]) -> bool:
  """Whether some method's step takes more passes than another's."""
  known = {row.forwards_per_step for row in rows} - {None}
  return len(known) > 1


def _of_costs(sweep: SweepRecord) -> str:
  costs = sweep.costs
  return (
    f"{costs.model}: peak, {costs.target}: the most memory that a training step"
    " takes, as the compiler says; it was compiled and not run. Without"
    " activations: its parameters, state and gradients, counted; no batch"
    " changes these. Weights and states, 16 bits: as papers count, every number"
    " of more in 16 bits, without gradients and activations."
  )


def _notes_on_spread(
  sweep: SweepRecord, compared: Sequence[stats.Row]
) -> list[str]:
  """Where the seeds alone do not tell the spread of a difference."""
  notes = []
  constant = [r.label for r in compared if r.difference.is_constant]
  if constant and not verdicts.is_exact(sweep):
    notes.append(
      "No p where the difference is the same number for every seed: its spread"
      f" is not known. {', '.join(constant)}."
    )
  least_sd = resolution_sd(resolution(sweep))
  if any(r.difference.interval.sd == least_sd > 0 for r in compared):
    notes.append(
      f"{sweep.metric} takes steps of {resolution(sweep):.3g}: the standard"
      f" deviation of a difference counts as {least_sd:.2g} at least, a step"
      " over the root of 6."
    )
  return notes
