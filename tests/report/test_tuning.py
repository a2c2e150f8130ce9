"""What a report says of tuning: choices per seed, budgets, whose luck it is."""

import dataclasses
import json

import pytest

import normjax
from normjax.report import facts, formats, load, stats, tables
from normjax.report.plots import sensitivity
from tests.report import conftest

RATE = "optimizer.learning_rate"
SEEDS = (100, 101)
LABELS = ("layer_norm+adamw", "layer_norm+muon")


@pytest.fixture
def make_repeated(make_sweep):
  """A sweep whose tuning was repeated; `adamw` chose another rate each time."""

  def make(split="tuning", **search):
    out = make_sweep(
      norms={"layer_norm": 0.0}, seeds=SEEDS, diverged=(),
      optimizers={"adamw": (0.0, 1e-3), "muon": (-0.09, 3e-3)},
    )  # fmt: skip
    plan = json.loads((out / "plan.json").read_text())
    chosen = {"adamw": (3e-4, 1e-3), "muon": (3e-3, 3e-3)}
    for method in plan["methods"]:
      name = method["overrides"]["optimizer.name"]
      del method["tuned"], method["on_edge"]
      method["choices"] = [
        {"values": {RATE: rate}, "on_edge": rate == 3e-4, "for_seed": seed}
        for seed, rate in zip(SEEDS, chosen[name], strict=True)
      ]
    trials = [p for p in plan["points"] if p["stage"] == "tune"]
    for point in trials:
      overrides = {**point["overrides"], "evaluate.split": split}
      point |= {"for_seed": 100, "seed": 1100, "overrides": overrides}
      # The second tuning is worse by 0.1 throughout, and has not the last rate.
      rate, run_id = point["overrides"][RATE], f"{point['run_id']}b"
      if rate == conftest.SETTINGS[-1]:
        continue
      first = out / "runs" / point["run_id"] / "result.json"
      loss = json.loads(first.read_text())["metrics"]["eval/loss"] + 0.1
      config = conftest.applied(
        point["overrides"] | {"evaluate.split": split}, 1
      )
      conftest.write_run(out / "runs" / run_id, config, loss)
      plan["points"].append(
        point | {"run_id": run_id, "for_seed": 101, "seed": 1101}
      )
    plan["tunings"] = [
      {"for_seed": seed, "seeds": [1000 + seed], "trials": n, "later": 0}
      for seed, n in zip(SEEDS, (4, 3), strict=True)
    ]
    plan["search"] = {"name": "grid", "second_pass": True} | search
    (out / "plan.json").write_text(json.dumps(plan))
    return out

  return make


def test_chosen_values_are_told_per_seed(make_repeated):
  sweep = load.load(make_repeated())
  rows = stats.summarize(sweep)
  table = tables.build(sweep, rows)
  keys = [column.key for column in table.columns]
  cells = [row[keys.index("tuned")].text for row in table.rows]
  assert cells == ["0.0003, 0.001‡", "0.003"]
  assert [row[keys.index("trials")].text for row in table.rows] == ["7", "7"]
  notes = " ".join(table.notes)
  assert "those of the final seeds 100, 101, in this order" in notes
  assert "Here: layer_norm+adamw (seed 100)." in notes
  (adamw, _) = formats.records(sweep, rows)
  assert json.loads(adamw["tuned"]) == {
    "100": {RATE: 3e-4}, "101": {RATE: 1e-3},
  }  # fmt: skip
  (said,) = (v for name, v in facts.compared(sweep, rows) if name == "Tuning")
  assert said == (
    f"{RATE}: 3 to 4 tuning trials per method and final seed, 7 per method, 14"
    " in all, the baseline too; seeds 1100, 1101; search grid, with a second"
    " pass"
  )
  keys, values = facts.config_table(sweep)
  assert dict(values)[LABELS[0]][keys.index(RATE)] == "[0.0003, 0.001]"
  assert dict(values)[LABELS[1]][keys.index(RATE)] == "0.003"


def test_load_sweep_has_what_tuning_chose(make_repeated):
  sweep = normjax.load_sweep(make_repeated())
  assert sweep.tuned()[0] == {
    "method": LABELS[0], "seed": 100, "on_edge": True, RATE: 3e-4,
  }  # fmt: skip
  assert [row["seed"] for row in sweep.tuned()] == [100, 101, 100, 101]
  assert {row["for_seed"] for row in sweep.rows("tune")} == {100, 101}


def test_a_figure_s_points_are_means_over_tunings(make_repeated):
  sweep = load.load(make_repeated())
  (figure,) = sensitivity.build(sweep, stats.summarize(sweep))
  adamw, circled = figure.panels[0].series[:2]
  values = {}
  for run in sweep.trials(LABELS[0]):
    values.setdefault(run.overrides[RATE], []).append(run.metric(sweep.metric))
  values = {k: v for k, v in values.items() if None not in v}
  assert dict(zip(adamw.x, adamw.y, strict=True)) == pytest.approx(
    {rate: sum(own) / len(own) for rate, own in values.items()}
  )
  assert circled.x == (3e-4, 1e-3)
  assert "mean over the final seeds" in figure.caption


def test_limits_say_whose_luck_and_whose_data_it_is(make_repeated, make_sweep):
  def limits(out):
    sweep = load.load(out)
    return " ".join(facts.limits(sweep, stats.summarize(sweep)))

  said = limits(make_repeated())
  assert "shared" not in said
  assert "Simulated error" not in said
  said = limits(make_repeated(num_values=4, factor=3.0))
  assert (
    f"Simulated error (runs of a small decoder): with {len(LABELS)} equal"
    " methods, n = 2, tuned for each seed on 4 values a factor 3 apart and a"
    " second pass,"
  ) in said
  assert "Tuned on validation" not in said
  sweep = load.load(make_repeated(num_values=4, factor=3.0))
  keys = (*sweep.tuned_keys, "optimizer.b2")
  sweep = dataclasses.replace(sweep, tuned_keys=keys)
  said = " ".join(facts.limits(sweep, stats.summarize(sweep)))
  assert "not simulated: 2 numbers are tuned" in said
  assert "Simulated error" not in said
  said = limits(make_repeated(split="validation"))
  assert f"which flatters what is tuned: {', '.join(LABELS)}." in said
  # A plan of an earlier version: one choice, scored as the final runs are.
  said = limits(make_sweep(norms={"layer_norm": 0.0}, diverged=()))
  assert "Tuning was shared by all final seeds (1 tuning seed)" in said
  assert "Tuned on validation" in said


@pytest.mark.parametrize(
  ("shift", "said"), [(0, False), (1, True)], ids=["same parts", "others"]
)
def test_trials_of_other_folds_saw_what_validates(make_repeated, shift, said):
  sweep = load.load(make_repeated())

  def with_fold(run):
    moves = shift if run.stage == "tune" and run.method == LABELS[1] else 0
    fold = {"number": (run.seed % 1000 + moves) % 7}
    return dataclasses.replace(run, record={**run.record, "fold": fold})

  runs = tuple(map(with_fold, sweep.runs))
  sweep = dataclasses.replace(sweep, runs=runs)
  limits = " ".join(facts.limits(sweep, stats.summarize(sweep)))
  told = f"validated on, which flatters what is tuned: {LABELS[1]}." in limits
  assert told == said
  # One choice for all seeds is made on a part that validates for some of them.
  runs = tuple(dataclasses.replace(run, for_seed=None) for run in runs)
  sweep = dataclasses.replace(sweep, runs=runs)
  limits = " ".join(facts.limits(sweep, stats.summarize(sweep)))
  assert f"flatters what is tuned: {', '.join(LABELS)}." in limits


def test_equal_best_scores_are_said(make_repeated):
  out = make_repeated()
  plan = json.loads((out / "plan.json").read_text())

  def ties():
    sweep = load.load(out)
    said = " ".join(facts.limits(sweep, stats.summarize(sweep)))
    return said[said.find("Several values") :].partition(". ")[0]

  assert not ties().startswith("Several")
  for point in plan["points"]:
    if point["stage"] == "tune" and point["method"] == LABELS[1]:
      path = out / "runs" / point["run_id"] / "result.json"
      result = json.loads(path.read_text())
      result["metrics"]["eval/loss"] = 1.0
      path.write_text(json.dumps(result))
  assert ties() == (
    "Several values had the best eval/loss in 2 of 4 tunings, and the first,"
    f" as a rule the smallest, was taken: of {LABELS[1]}"
  )


def test_a_report_says_which_data_its_numbers_are_of(make_repeated):
  out = make_repeated()
  for path in (out / "runs").glob("f*/result.json"):
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "split": "test", "eval_examples": 9}))
  plan = json.loads((out / "plan.json").read_text())
  plan["overrides"] = {"train.num_steps": 9, "data.files": "a b"}
  (out / "plan.json").write_text(json.dumps(plan))
  sweep = load.load(out)
  said = dict(facts.compared(sweep, stats.summarize(sweep)))
  assert said["Final numbers on"] == "the test split, 9 targets"
  assert said["Tuned on"] == "the tuning split"
  assert said["Command"].endswith(
    " --out=out --config.train.num_steps=9 '--config.data.files=a b'"
  )


def test_failed_trials_are_counted(make_repeated):
  out = make_repeated()
  (first, *_) = load.load(out).trials(LABELS[0])
  (out / "runs" / first.run_id / "result.json").unlink()
  row = {"run_id": first.run_id, "state": "failed", "message": "boom"}
  with (out / "attempts.jsonl").open("a") as file:
    file.write(json.dumps(row) + "\n")
  sweep = load.load(out)
  said = " ".join(facts.limits(sweep, stats.summarize(sweep)))
  assert f"budgets differ by them: {LABELS[0]} 1." in said
