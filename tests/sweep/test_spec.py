"""What a `sweep()` may return."""

import ml_collections
import pytest

from normjax import errors
from normjax.sweep import Sweep, Tune, grid, product, spec

CONFIG = ml_collections.ConfigDict({"seed": 7})


def test_a_plain_list_has_its_seeds_taken_out():
  sweep = spec.as_sweep(
    product(grid("norm.name", ["a", "b"]), grid(seed=range(3))), CONFIG
  )
  assert sweep == Sweep(
    methods=[{"norm.name": "a"}, {"norm.name": "b"}], seeds=(0, 1, 2)
  )


def test_without_seeds_the_config_seed_is_the_only_one():
  assert spec.as_sweep(grid("a", [1, 2]), CONFIG).seeds == (7,)


def test_methods_with_different_seeds_are_not_paired():
  points = [{"a": 1, "seed": 0}, {"a": 2, "seed": 1}]
  with pytest.raises(errors.UserError, match="the same seeds, to be paired"):
    spec.as_sweep(points, CONFIG)


def test_one_seed_compares_nothing():
  sweep = Sweep([{"a": 1}, {"a": 2}], seeds=(0,))
  with pytest.raises(
    errors.UserError, match=r"Sweep.seeds is \(0,\): one seed"
  ):
    spec.as_sweep(sweep, CONFIG)
  assert spec.as_sweep(Sweep([{"a": 1}], seeds=(0,)), CONFIG).seeds == (0,)
  assert spec.as_sweep([{"a": 1}, {"a": 2}], CONFIG).seeds == (CONFIG.seed,)


@pytest.mark.parametrize(
  ("seeds", "tune", "message"),
  [
    ((0, 9), {"repeat": "shared", "seeds": (2, 9)}, "the tuning seed 9 is a f"),
    (
      (0, 9),
      {"seeds": (2, 0)},
      "tuning seed 0 of final seed 9 is a final seed",
    ),
    # By the rule, 1000 + the final seed.
    ((0, 1000), {}, "the tuning seed 1000 of final seed 0 is a final seed"),
    ((0, 1), {"seeds": (7,)}, r"has 1 for the 2 final seeds \(0, 1\)"),
    ((0, 1), {"seeds": {0: 7, 2: 8}}, r"final seeds \[0, 2\]; .* \[0, 1\]"),
    ((0, 1), {"seeds": {0: 7, 1: 7}}, "its values needs .* different"),
    ((0, 1), {"seeds": {0: 7}, "repeat": "shared"}, "give the seeds alone"),
    ((2**31 - 5, 1), {}, "the tuning seed 2147484643 of final seed 2147483643"),
  ],
)
def test_tuning_seeds_are_others_and_one_per_final_seed(seeds, tune, message):
  with pytest.raises(errors.UserError, match=message):
    Sweep(methods=[{}], seeds=seeds, tune=Tune({"a": [1, 2]}, **tune))


def test_each_final_seed_has_a_tuning_of_its_own():
  def tunings(**tune):
    sweep = Sweep([{}], seeds=(3, 4), tune=Tune({"a": [1, 2]}, **tune))
    return [(t.for_seed, t.seeds) for t in sweep.tunings]

  assert tunings() == [(3, (1003,)), (4, (1004,))]
  assert tunings(seeds=[8, 7]) == [(3, (8,)), (4, (7,))]
  assert tunings(seeds={4: 7, 3: 8}) == [(3, (8,)), (4, (7,))]
  assert tunings(repeat="shared") == [(None, (1000,))]
  assert tunings(repeat="shared", seeds=(7, 8)) == [(None, (7, 8))]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"repeat": "per_sed"}, "Tune.repeat .* 'per_sed'. Did you mean 'per_seed"),
    ({"search": "gird"}, "Tune.search must be one of .*Did you mean 'grid'"),
    ({"search": "quasi_random"}, "'quasi_random' needs Tune.trials"),
    ({"trials": 4}, "Tune.trials is 4, but Tune.search is 'grid'"),
    ({"phases": 4}, "Tune.phases is 4, but Tune.search is 'grid'"),
    (
      {"phases": 0, "search": "coordinate"},
      "Tune.phases must be an integer from 1 to",
    ),
    (
      {"trials": 2.5, "search": "quasi_random"},
      "Tune.trials must be an integer from 1 to",
    ),
    (
      {"trials": 4, "search": "quasi_random", "limits": {"a": (0, 9)}},
      "Tune.limits bounds growth",
    ),
    ({"second_pass": 1}, "Tune.second_pass must be True or False"),
  ],
)
def test_bad_searches_are_refused(options, message):
  with pytest.raises(errors.UserError, match=message):
    Tune({"a": [1, 2]}, **options)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"methods": []}, "methods is empty"),
    ({"methods": ["muon"]}, "a dict of overrides, got 'muon'"),
    ({"methods": [{"seed": 1}]}, "sets 'seed'"),
    ({"methods": [{}], "seeds": (1, 1)}, "Sweep.seeds needs"),
    ({"methods": [{}], "seeds": ()}, "Sweep.seeds needs"),
    ({"methods": [{}], "seeds": (0.5,)}, "Sweep.seeds needs"),
    ({"methods": [{}], "other_metrics": "eval/loss"}, "a tuple of names"),
    ({"methods": [{}], "mode": "least"}, "'min', 'max', got 'least'"),
    (
      {"methods": [{}], "divergence": "wrost"},
      "'verdict', 'worst', got 'wrost'",
    ),
    ({"methods": [{}], "labels": ["a", "b"]}, "1 different labels"),
  ],
)
def test_bad_sweeps_are_refused(options, message):
  with pytest.raises(errors.UserError, match=message):
    Sweep(**options)


def test_bad_tuning_is_refused():
  with pytest.raises(errors.UserError, match="max_extensions must be >= 0"):
    Tune({}, max_extensions=-1)
  with pytest.raises(errors.UserError, match=r"Tune.seeds needs"):
    Tune({}, seeds=())


FILE = """
import ml_collections
def get_config(arg=""):
  return ml_collections.ConfigDict({"seed": 0, "a": 1})
"""


@pytest.mark.parametrize(
  ("body", "asked", "values"),
  [
    ("def sweep(): return [{'a': 1}, {'a': 2}]", "", [1, 2]),
    ("def sweep(): return [{'a': 1}, {'a': 2}]", ":x", [1, 2]),
    ("def sweep(arg=''): return [{'a': len(arg)}]", ":four", [4]),
    ("def sweep():\n  yield {'a': 5}", "", [5]),
  ],
)
def test_load_gives_sweep_the_argument_where_it_takes_one(
  tmp_path, body, asked, values
):
  path = tmp_path / "c.py"
  path.write_text(FILE + body)
  sweep = spec.load(f"{path}{asked}", CONFIG)
  assert [method["a"] for method in sweep.methods] == values


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("", "defines no sweep"),
    ("def sweep(): return 1 / 0", "sweep.. of .* failed: ZeroDivisionError"),
    ("def sweep(): return []", "no points"),
    ("def sweep(): return ['x']", "override dicts, got 'x'"),
  ],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path, body, message):
  path = tmp_path / "c.py"
  path.write_text(FILE + body)
  with pytest.raises(errors.UserError, match=message):
    spec.load(str(path), CONFIG)
