"""Checks of a sweep where its own process must not open an accelerator."""

import dataclasses

import pytest

from normjax import build, configure, errors
from normjax.sweep import machine, preflight
from normjax.sweep import plan as plan_lib
from normjax.sweep.spec import Sweep
from tests import support


def _plan(**changes):
  return plan_lib.plan(
    Sweep(**{"methods": [{}], "seeds": (0, 1), **changes}),
    support.tiny(),
    {},
    program_key=build.program_key,
  )


def test_elsewhere_says_the_same_as_here(monkeypatch):
  plan = _plan(metric="eval/acuracy")
  with pytest.raises(errors.UserError) as here:
    preflight.check(plan, plan.points)
  monkeypatch.setattr(machine, "has_accelerator", lambda: True)
  with pytest.raises(errors.UserError) as elsewhere:
    preflight.check(plan, plan.points)
  assert str(elsewhere.value) == str(here.value)


def test_a_kernel_is_judged_where_it_will_run():
  config = configure.to_dict(support.tiny({"norm.impl": "pallas_tpu"}))
  configs = [("method 'a'", "p", config)]
  with pytest.raises(errors.UserError, match="method 'a': rms_norm: none of"):
    preflight.check_here(configs, "eval/loss", [])
  assert not preflight.check_here(configs, "eval/loss", [], same_devices=False)


def test_one_model_that_does_not_fit_is_said_and_the_others_go_on():
  plan = _plan(methods=[{}, {"model.num_heads": 3}])
  (note,) = preflight.check(plan, plan.points)
  assert "will fail: method 'num_heads=3': model.num_heads=3: " in note
  with pytest.raises(errors.UserError, match="a divisor of half of"):
    preflight.check(plan, plan.points, strict=True)
  with pytest.raises(errors.UserError, match="a divisor of half of"):
    preflight.check(plan, plan.points[2:])


def test_nothing_left_imports_nothing(monkeypatch):
  monkeypatch.setattr(preflight, "check_here", None)
  preflight.check(_plan(), [])


def test_seeds_are_no_points_of_their_own():
  plan = _plan(seeds=range(5))
  assert len(plan.points) == 5
  assert len(preflight._distinct(plan.points)) == 1


def test_a_split_that_only_final_runs_read_is_looked_for_before_tuning():
  plan = _plan(seeds=(0,))
  trial, final = (
    dataclasses.replace(point, config=_on(point.config, split))
    for point in plan.points
    for split in ("tuning", "test")
  )
  assert trial.program == final.program
  with pytest.raises(errors.UserError, match="split='test'.* has no split"):
    preflight.check(plan, [trial, final])


def _on(config, split):
  return {**config, "evaluate": {**config["evaluate"], "split": split}}


def test_rows_of_context_answer_the_same_examples():
  def point(name, method, **block):
    return name, "", {"context": {"method": method, **block}}

  free = point("free", "erm")
  controlled = point("controlled", "cs_arm_bn", num_controls=8)
  with pytest.raises(errors.UserError, match="free and controlled answer"):
    preflight._check_queries_are_the_same([free, controlled])
  another = point("another", "erm", num_controls=4, control_class=1)
  with pytest.raises(errors.UserError, match="control_class=0 and 1"):
    preflight._check_queries_are_the_same([controlled, another])
  none = "without", "", {"context": {"num_controls": 0}}
  alike = point("alike", "erm", num_controls=4)
  preflight._check_queries_are_the_same([controlled, none, alike])
