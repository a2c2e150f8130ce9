"""A ladder's rows, how values are carried, and what is refused."""

import io
import json
import math

import ml_collections
import numpy as np
import pytest
import rich.console

from normjax import errors
from normjax.record import rungs, schema
from normjax.report import ladder, load
from normjax.sweep import Ladder, Sweep, Tune, grid, plan, select

BASE = ml_collections.ConfigDict(
  {
    "seed": 0,
    "optimizer": {"name": "toy", "learning_rate": 0.1},
    "model": {"name": "toy", "model_dim": 8, "depth": 1},
    "data": {"name": "toy", "sequence_length": 16},
    "train": {"num_steps": 5, "batch_size": 4},
    "toy": {"name": "a"},
  }
)
SIZES = {
  "8": {"model.model_dim": 8},
  "16": {"model.model_dim": 16},
  "32": {"model.model_dim": 32},
}
METHODS = grid("toy.name", ["a", "b"])
RATE = "optimizer.learning_rate"


def laddered(ladder=None, **options):
  options = {"methods": METHODS, "seeds": (1, 2), **options}
  return Sweep(ladder=ladder or Ladder(SIZES, (10, 20, 40)), **options)


def make_plan(sweep, results=None, base=BASE, **options):
  return plan.plan(
    sweep,
    base,
    results or {},
    program_key=lambda c: f"{c.toy.name} {c.model.model_dim}",
    **options,
  )


def tuned(**options):
  """Nothing but a choice of three rates, for each seed."""
  tune = Tune({RATE: (0.05, 0.1, 0.2)}, max_extensions=0, second_pass=False)
  return laddered(tune=tune, **options)


def run_all(sweep, best=0.1, base=BASE):
  """Trials whose best rate is known, then everything else."""
  results = {}
  while True:
    made = make_plan(sweep, results, base)
    todo = [p for p in made.points if p.run_id not in results]
    if not todo:
      return made
    for point in todo:
      rate = point.config["optimizer"]["learning_rate"]
      loss = abs(math.log(rate / best))
      results[point.run_id] = {"state": "done", "metrics": {"eval/loss": loss}}


def test_a_row_per_method_size_and_budget():
  made = make_plan(laddered())
  labels = [method.label for method in made.methods]
  assert labels[:4] == [
    "a @ 8 x 10 steps",
    "a @ 8 x 20 steps",
    "a @ 8 x 40 steps",
    "a @ 16 x 10 steps",
  ]
  assert len(labels) == 18
  assert made.num_points == len(made.points) == 36
  # Each is a run of its own, whose schedule ends there.
  point = next(p for p in made.points if p.method == "b @ 32 x 20 steps")
  assert point.config["train"]["num_steps"] == 20
  assert point.config["model"]["model_dim"] == 32
  assert (made.baseline, made.standins) == ("a @ 16 x 20 steps", {})
  beside = made.ladder.beside("b @ 32 x 20 steps", made.baseline)
  assert beside == "a @ 32 x 20 steps"


def test_the_baseline_alone_has_further_budgets():
  made = make_plan(
    laddered(Ladder(SIZES, (10, 20), baseline_budgets=(80, 5)), baseline="b")
  )
  steps = {(r.method, r.budget) for r in made.ladder.rows.values()}
  assert steps == {
    ("a", 10), ("a", 20), ("b", 5), ("b", 10), ("b", 20), ("b", 80)
  }  # fmt: skip
  assert made.baseline == "b @ 16 x 10 steps"
  assert rungs.fits(rungs.to_json(made.ladder))
  assert made.ladder.budgets == [10, 20]


def test_one_rung_is_tuned_and_the_others_take_its_values():
  sweep = tuned()
  made = make_plan(sweep)
  trials = [p for p in made.points if p.stage == "tune"]
  assert trials == list(made.points)
  assert {p.method for p in trials} == {
    "a @ 16 x 20 steps",
    "b @ 16 x 20 steps",
  }
  assert len(trials) == 12
  assert made.num_points == 12 + 36
  assert [t.trials for t in made.tunings] == [3, 3]
  # What waits for them has a stand-in, whose program is known already.
  assert len(made.standins) == 16
  assert made.standins["a @ 32 x 10 steps"].program == "a 32"
  over = run_all(sweep)
  assert len(over.points) == over.num_points == 48
  for method in over.methods:
    assert [choice.values for choice in method.choices] == [{RATE: 0.1}] * 2
  # Where the best is an edge is where it was tried.
  edges = [m.label for m in run_all(sweep, best=0.01).methods if m.on_edge]
  assert edges == ["a @ 16 x 20 steps", "b @ 16 x 20 steps"]


def rates(made, key="learning_rate"):
  """The rate of the optimizer by size, of method a."""
  return {
    made.ladder.rows[p.method].size: p.config["optimizer"].get(key)
    for p in made.points
    if p.stage == "final" and made.ladder.rows[p.method].method == "a"
  }


def test_by_width_the_one_rate_of_all_parameters():
  made = run_all(tuned(ladder=Ladder(SIZES, (10, 20), transfer="width")))
  assert rates(made) == {"8": 0.2, "16": 0.1, "32": 0.05}
  text = made.ladder.transfer["a"]
  assert text.startswith(f"width: {RATE} x 16 / model.model_dim, of all")
  # The chosen values are said as they are used.
  (method,) = [m for m in made.methods if m.label == "a @ 32 x 10 steps"]
  assert method.tuned_for(1) == {RATE: 0.05}


def test_by_width_without_tuning_the_configs_own_rate():
  made = make_plan(laddered(Ladder(SIZES, (10, 20), transfer="width")))
  assert rates(made) == {"8": 0.2, "16": 0.1, "32": 0.05}


def with_options(**options):
  base = BASE.copy_and_resolve_references()
  with base.unlocked():
    base.optimizer.update(options)
  return base


def test_by_width_a_fallback_keeps_its_rate():
  by_width = tuned(ladder=Ladder(SIZES, (10, 20), transfer="width"))
  base = with_options(fallback_learning_rate=0.3)
  made = run_all(by_width, base=base)
  assert rates(made) == {"8": 0.2, "16": 0.1, "32": 0.05}
  assert set(rates(made, "fallback_learning_rate").values()) == {0.3}
  # One that had the rate of the matrices keeps what that was.
  base = with_options(
    fallback_learning_rate=ml_collections.config_dict.placeholder(float)
  )
  made = run_all(by_width, best=0.05, base=base)
  assert rates(made) == {"8": 0.1, "16": 0.05, "32": 0.025}
  kept = rates(made, "fallback_learning_rate")
  assert kept == {"8": 0.05, "16": None, "32": 0.05}


def test_by_width_the_matrices_own_scale():
  base = with_options(fallback_learning_rate=0.3, matrix_scale=0.05)
  made = run_all(
    tuned(ladder=Ladder(SIZES, (10, 20), transfer={"toy": "width"})), base=base
  )
  assert set(rates(made).values()) == {0.1}
  assert rates(made, "matrix_scale") == {"8": 0.1, "16": 0.05, "32": 0.025}


def test_a_rule_per_method_comes_before_one_per_optimizer():
  made = make_plan(
    laddered(
      Ladder(SIZES, (10, 20), transfer={"toy": "width", "a": "constant"})
    )
  )
  said = {
    name: text.split(":")[0] for name, text in made.ladder.transfer.items()
  }
  assert said == {"a": "constant", "b": "width"}


def test_budgets_in_tokens():
  made = make_plan(laddered(Ladder(SIZES, (640, 1280), unit="tokens")))
  steps = {
    p.method: p.config["train"]["num_steps"] for p in made.points
  }  # 4 examples of 16 tokens per step.
  assert steps["a @ 8 x 640 tokens"] == 10
  assert steps["a @ 8 x 1280 tokens"] == 20
  with pytest.raises(errors.UserError, match="the next that are: 640 and 704"):
    make_plan(laddered(Ladder(SIZES, (650, 1280), unit="tokens")))


def test_the_plans_file(tmp_path):
  made = make_plan(tuned(ladder=Ladder(SIZES, (10, 20), transfer="width")))
  value = json.loads(json.dumps(plan.to_json(made, "ladder.py")))
  assert "standins" not in value
  assert not schema.problem(value, schema.PLAN)
  assert not schema.stray_method(value)
  assert rungs.from_json(value["ladder"]) == made.ladder
  assert value["ladder"]["transfer"] == made.ladder.transfer
  assert plan.to_json(make_plan(Sweep(METHODS)), "x.py")["ladder"] is None


def test_the_rule_is_part_of_the_sweep():
  ids = {
    make_plan(tuned(ladder=Ladder(SIZES, (10, 20), **options))).sweep_id
    for options in ({}, {"transfer": "width"}, {"tuned_at": "8"})
  }
  assert len(ids) == 3


def test_part_of_a_ladder_runs_the_rung_that_is_tuned_too():
  comparison = plan.Comparison(tuned(), BASE, lambda config: config.toy.name)
  chosen = select.select(comparison.labels, (1, 2), "b @ 32 x 10", None)
  labels = comparison.with_tuned(chosen.labels)
  assert labels == {"b @ 32 x 10 steps", "b @ 16 x 20 steps"}


@pytest.mark.parametrize(
  ("options", "what"),
  [
    ({"sizes": {"8": SIZES["8"]}}, r"needs two or more sizes, got \['8'\]"),
    ({"sizes": [SIZES["8"], SIZES["16"]]}, "must be a mapping from label"),
    ({"sizes": {"8": {}, "16": SIZES["16"]}}, r"\['8'\] must be overrides"),
    ({"sizes": SIZES | {"64": SIZES["8"]}}, "'8' and '64' are the same size"),
    ({"sizes": SIZES | {"64": {"seed": 1}}}, r"\['64'\] sets 'seed'"),
    ({"budgets": (10,)}, r"Ladder.budgets needs two or more .* got \(10,\)"),
    ({"baseline_budgets": (10, 80)}, r"\[10\], which Ladder.budgets has too"),
    ({"baseline_budgets": (0.5,)}, "baseline_budgets needs different whole"),
    ({"budgets": (10, 10)}, r"different whole numbers .* got \(10, 10\)"),
    ({"budgets": (10, 0)}, "whole numbers above 0"),
    ({"budgets": 10}, "Ladder.budgets needs whole numbers, got 10"),
    ({"unit": "epochs"}, "'steps', 'tokens', got 'epochs'"),
    ({"tuned_at": "64"}, r"tuned_at is '64', which is none of \['8', '16'"),
    ({"tuned_budget": 30}, r"tuned_budget is 30, which is none of \[10, 20"),
    (
      {"tuned_budget": 10.0},
      r"tuned_budget is 10.0, which is none of \[10, 20",
    ),
    ({"tuned_at": np.ones(2)}, "tuned_at is array"),
    ({"transfer": "mup"}, "no model of normjax has muP's initialization"),
    ({"transfer": {"a": "depth"}}, "has no rule 'depth'; allowed: .*'width'"),
    ({"transfer": 2}, "must be a rule, or a mapping"),
  ],
)
def test_a_ladder_that_cannot_be_is_refused(options, what):
  with pytest.raises(errors.UserError, match=what):
    Ladder(**{"sizes": SIZES, "budgets": (10, 20, 40), **options})


@pytest.mark.parametrize(
  ("options", "what"),
  [
    (
      {"methods": [{"toy.name": "a"}, {"model.model_dim": 4}]},
      "sets 'model.model_dim', which Sweep.ladder sets",
    ),
    (
      {"methods": [{"toy.name": "a"}, {"train.num_steps": 4}]},
      "sets 'train.num_steps', which Sweep.ladder sets",
    ),
    (
      {"methods": [{"toy.name": "a"}, {"train.batch_size": 4}]},
      r"sees other amounts of data. Give Ladder\(unit='tokens'\)",
    ),
    ({"methods": METHODS[:1]}, "needs two or more methods"),
    ({"mode": "max"}, "better where it is smaller"),
    ({"metric": "steps_to(eval/loss<=2.0)"}, "follows a loss over budgets"),
    ({"tune": Tune({"train.num_steps": (1, 2)})}, "Tune.space varies 'train"),
    ({"ladder": 3}, "Sweep.ladder must be a Ladder, got 3"),
  ],
)
def test_a_sweep_that_does_not_fit_its_ladder_is_refused(options, what):
  with pytest.raises(errors.UserError, match=what):
    laddered(**options)


@pytest.mark.parametrize(
  ("ladder", "what"),
  [
    ({"transfer": {"adamw": "width"}}, "'adamw', which is no method and no op"),
    ({"transfer": "width", "width": "model.x"}, "'model.x', which is None at"),
    (
      {"sizes": {"8": {"model.model_dim": 8}, "8 deep": {"model.depth": 1}}},
      "'8' and '8 deep' are the same size",
    ),
  ],
)
def test_what_only_a_config_shows_is_refused(ladder, what):
  sweep = laddered(Ladder(**{"sizes": SIZES, "budgets": (10, 20), **ladder}))
  with pytest.raises(errors.UserError, match=what):
    make_plan(sweep)


def test_a_function_s_space_leaves_alone_what_the_ladder_sets():
  space = Tune(lambda config: {"model.model_dim": (1, 2)})
  what = "Tune.space varies 'model.model_dim', which Sweep.ladder sets"
  with pytest.raises(errors.UserError, match=what):
    make_plan(laddered(tune=space))


TOY = """Sweep(
  methods=grid("toy.name", ["a", "bb"]),
  seeds=(0, 1),
  tune=Tune({{"optimizer.learning_rate": (0.03, 0.1, 0.3)}},
            second_pass=False),
  ladder=Ladder({{"1": {{"toy.width": 1}}, "2": {{"toy.width": 2}}}}, (2, 4),
                width="toy.width", transfer="{transfer}"),
)"""


def test_a_ladder_runs_in_parts_and_is_told_from_another(
  write_config, run_toy, tmp_path
):
  def config(transfer):
    path = write_config(TOY.format(transfer=transfer))
    path.write_text(path.read_text().replace("grid,", "grid, Ladder,"))
    return path

  out = tmp_path / "out"
  file = io.StringIO()
  console = rich.console.Console(file=file, width=500)
  # Six trials per method, for two seeds; eight rows of two seeds.
  run_toy(config("width"), out, dry_run=True, compiles=False, console=console)
  said = file.getvalue()
  assert "is not simulated: rows of a ladder take values" in said
  assert "28 points (16 of them follow the tuning), 0 of them over; 4" in said
  assert "Tuned at: size 1, 2 steps." in said
  assert "a, bb: width: optimizer.learning_rate x 1 / toy.width, of all" in said
  assert "3 tuning trials per method and final seed, 6 per method, 12" in said
  # A row brings the row that is tuned for it, and its trials.
  part = run_toy(config("width"), out, methods="bb @ 2 x 4")
  assert part.chosen == (6 + 2 + 2, 6 + 2 + 2)
  done = run_toy(config("width"), out)
  assert (done.exit_code, done.num_done, done.plan.num_points) == (0, 28, 28)
  # The loss of the toy does not fall with the budget, and the report says so.
  found = ladder.analyse(load.load(out))
  assert "does not fall with the budget" in found.trends[0].problem
  message = "values of a were carried by 'width: .*', are by 'constant: "
  with pytest.raises(errors.RunError, match=message):
    run_toy(config("constant"), out)
