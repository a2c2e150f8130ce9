"""Cells from the files of sweeps, and from values that are computed."""

import json

import pytest

from normjax import errors, papers
from normjax.report import load, paper
from tests.report.conftest import write_sweep
from tests.report.paper.conftest import stated

LABEL = "layer_norm+adamw"
SMALL = {
  "norms": {"layer_norm": 0.0, "dyt": 0.06},
  "optimizers": {"adamw": (0.0, 1e-3), "sinkgd": (-0.03, 1e-2)},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  return load.load(write_sweep(tmp_path_factory.mktemp("part"), **SMALL))


def _measured(sweeps, *cells, parts=("sweep",), computed=None):
  return paper.measured(
    stated(cells=list(cells), parts=parts), sweeps, computed
  )


def test_values_are_the_final_runs(sweep):
  cells = (
    papers.Cell("ln", method=LABEL),
    papers.Cell("ln", "accuracy", method=LABEL, metric="eval/accuracy"),
    papers.Cell("dyt+sinkgd"),
  )
  found = _measured({"sweep": sweep}, *cells)
  loss = {run.seed: run.metric("eval/loss") for run in sweep.finals(LABEL)}
  assert found["ln"].values == loss
  assert (found["ln"].metric, found["ln"].is_tuned) == ("eval/loss", True)
  assert found["ln"].is_complete
  assert found["ln", "accuracy"].values == {
    seed: pytest.approx(1 - value / 6) for seed, value in loss.items()
  }
  lost = found["dyt+sinkgd"]
  assert (lost.diverged, lost.num_over, lost.num_planned) == ({101}, 3, 3)
  assert (lost.on_edge, found["ln"].on_edge) == (True, False)


def test_a_target_that_the_sweep_does_not_name_is_read_from_the_rows(sweep):
  name = "steps_to(eval/loss<=2.0)"
  found = _measured(
    {"sweep": sweep}, papers.Cell("ln", method=LABEL, metric=name)
  )["ln"]
  rows = sweep.finals(LABEL)[0].rows
  first = next(
    r["step"] for r in rows if r["kind"] == "eval" and r["loss"] <= 2
  )
  assert found.values[sweep.finals(LABEL)[0].seed] == first
  never = _measured(
    {"sweep": sweep},
    papers.Cell("ln", method=LABEL, metric="steps_to(eval/loss<=0.1)"),
  )["ln"]
  assert (never.censored, never.values) == (True, {})
  # Whether they diverged is known nevertheless.
  assert len(never.seeds) == never.num_over == 3


@pytest.mark.parametrize(
  ("cell", "said"),
  [
    (papers.Cell("layer_norm+adam"), "no method 'layer_norm+adam'. Did you"),
    (papers.Cell("a|b", method=LABEL, metric="eval/acuracy"),
     "cell 'a|b': no run of part 'sweep' has metric 'eval/acuracy'. Did you"
     " mean 'eval/accuracy'"),
    (papers.Cell("a", method=LABEL, metric="steps_to(loss<1)"), "is not steps"),
  ],
)  # fmt: skip
def test_what_a_sweep_does_not_have_is_named(sweep, cell, said):
  with pytest.raises(errors.UserError) as error:
    _measured({"sweep": sweep}, cell)
  assert said in str(error.value)


def test_a_part_that_was_not_begun_and_one_that_is_not_over(tmp_path):
  out = write_sweep(tmp_path, **SMALL)
  plan = json.loads((out / "plan.json").read_text())
  final = [p["run_id"] for p in plan["points"] if p["method"] == LABEL][-1]
  (out / "runs" / final / "result.json").unlink()
  (out / "plan.json").write_text(json.dumps(plan | {"num_seeds": 5}))
  cells = papers.Cell(LABEL), papers.Cell("b", part="more")
  found = _measured({"sweep": load.load(out)}, *cells, parts=("sweep", "more"))
  assert (found[LABEL].num_over, found[LABEL].num_planned) == (2, 5)
  assert not found[LABEL].is_complete
  assert found["b"].num_planned == 0


def test_statements_may_be_about_cells_of_two_parts(tmp_path, write_targets):
  write_targets()
  sweeps = {
    part: load.load(write_sweep(tmp_path / part, **SMALL, spread=spread))
    for part, spread in (("sweep", 0.012), ("more", 0.02))
  }
  cells = [papers.Cell(LABEL), papers.Cell("other", method=LABEL, part="more")]
  table = stated(
    papers.within(LABEL, "other", 0.5), cells=cells, parts=("sweep", "more")
  )
  judged = paper.judge(table, "proxy", paper.measured(table, sweeps))
  assert (judged.verdict, judged.statements[0].interval.n) == ("confirmed", 3)


N = papers.Cell("n", part="measure")


def test_computed_values_are_seeds_in_their_order():
  found = _measured({}, N, parts=("measure",), computed={"n": [3, 2.5]})["n"]
  assert found.values == {0: 3.0, 1: 2.5}
  assert (found.computed, found.is_complete, found.is_tuned) == (
    True, True, None,
  )  # fmt: skip
  lost = _measured(
    {}, N, parts=("measure",), computed={"n": [1, float("inf")]}
  )["n"]
  assert (lost.values, lost.diverged) == ({0: 1.0}, {1})
  assert not _measured({}, N, parts=("measure",))["n"].is_complete


@pytest.mark.parametrize(
  ("values", "said"),
  [
    ({"m": [1.0]}, "measure() gives no values of cell 'n'; it gives: m"),
    ({}, "it gives: none"),
    ({"n": 3.0}, "gives 3.0 of cell 'n'; allowed: a list of numbers"),
    ({"n": ["x"]}, "gives ['x'] of cell 'n'"),
    ({"n": [None]}, "gives [None] of cell 'n'"),
    ({"n": [10**400]}, "of cell 'n'; allowed"),
  ],
)
def test_computed_values_that_are_none_are_named(values, said):
  with pytest.raises(errors.UserError) as error:
    _measured({}, N, parts=("measure",), computed=values)
  assert said in str(error.value)
