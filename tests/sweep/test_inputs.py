"""Whatever stands in a sweep file gives a plan or one clear message."""

import io
import math

import numpy as np
import pytest
import rich.console

from normjax import configure, errors
from normjax.sweep import Sweep, Tune, api, labels, spec
from tests import support

RATE = "optimizer.learning_rate"
METHODS = ({"norm.name": "rms_norm"}, {"norm.name": "dyt"})


def _sweep(**changes):
  return Sweep(**{"methods": METHODS, "seeds": (0, 1), **changes})


def _tune(**changes):
  return _sweep(tune=Tune(**{"space": {RATE: (0.1, 0.2)}, **changes}))


FIELDS = {
  **{
    name: lambda value, name=name: _sweep(**{name: value})
    for name in (
      "methods", "seeds", "tune", "baseline", "metric", "mode", "labels",
      "other_metrics",
    )
  },
  **{
    f"Tune.{name}": lambda value, name=name: _tune(**{name: value})
    for name in (
      "space", "seeds", "max_extensions", "relative", "limits", "repeat",
      "second_pass", "search",
    )
  },
  "Tune.trials": lambda value: _tune(trials=value, search="quasi_random"),
  "Tune.phases": lambda value: _tune(phases=value, search="coordinate"),
  "quasi-random space": lambda value: _tune(
    space={RATE: value}, trials=2, search="quasi_random"
  ),
  "sweep()": lambda value: value,
  "label": lambda value: _sweep(labels=[value, "b"]),
  "space function": lambda value: _tune(space=lambda config: value),
  "factors": lambda value: _tune(space={RATE: value}, relative=True),
  "key": lambda value: _sweep(methods=[{value: 0.1}, {RATE: 0.2}]),
  "value": lambda value: _sweep(methods=[{"log.probes": value}, {RATE: 0.2}]),
}  # fmt: skip
NASTY = (
  None, math.nan, math.inf, -1, 0, 3.0, 2**40, "", [], {}, True, b"x", (),
  len, ("a",), [None], np.int64(3), "x" * 300, object(), {RATE: 1}, {RATE: [1]},
  {RATE: "ab"}, {RATE: [0.1, math.nan]}, {RATE: [0.1, {}]}, {RATE: [[1], [2]]},
  {RATE: [0.1, "a"]}, {"seed": [1, 2]}, {3: [1, 2]}, {"foo": [1, 2]},
  {"norm": [1, 2]}, {RATE: (2, 1)}, {RATE: (math.nan, 1)}, {RATE: ("a", "b")},
  {"norm.eps": (0, 1)}, [{RATE: 1}], [{"a": 1}], [1, 2], [[1]], range(2),
  {"train.num_steps": [1.5, 2.5]}, (True, False), (2**31,), (-1,), ["a", "a"],
  {"norm.name": ["dyt", "foo"]},
)  # fmt: skip


SMALL = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict({
    "seed": 0, "train": {"num_steps": 3}, "log": {"probes": ()},
    "norm": {"name": "layer_norm", "eps": 1e-6},
    "optimizer": {"name": "adamw", "learning_rate": 0.3},
  })
"""
WHOLE = """
from normjax import configure
def get_config(): return configure.load("configs/default.py")
"""


@pytest.fixture
def write(tmp_path):
  """A small config file whose `sweep` a test replaces."""
  path = tmp_path / "c.py"
  path.write_text(SMALL)
  return path


@pytest.fixture
def write_whole(write):
  """One that can be trained."""
  write.write_text(WHOLE)
  return write


def _plan(path, monkeypatch, make, runner="a:b"):
  load_module = configure.load_module

  def load(file):
    module = load_module(file)
    if str(file) == str(path):
      module.sweep = make
    return module

  monkeypatch.setattr(configure, "load_module", load)
  out = path.parent / "out"
  api.run_sweep(
    path,
    out,
    dry_run=True,
    workers=1,
    runner=runner,
    program_key=lambda config: "p",
    estimate=lambda config: {},
    console=rich.console.Console(file=io.StringIO()),
  )
  assert not out.exists()


@pytest.mark.parametrize("name", FIELDS)
def test_any_value_gives_a_plan_or_one_message(write, monkeypatch, name):
  messages = []
  for value in NASTY:
    try:
      with monkeypatch.context() as patch:
        _plan(write, patch, lambda value=value: FIELDS[name](value))
    except errors.UserError as error:
      messages.append(str(error))
  assert len(messages) >= len(NASTY) // 2
  assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: _sweep(seeds=(0, 2**31)), "Sweep.seeds: seed 2147483648 must be"),
    (lambda: _sweep(seeds=(-1,)), "Sweep.seeds: seed -1 must be at least 0"),
    (lambda: _sweep(seeds=(True, False)), "different whole numbers, got (True"),
    (lambda: _sweep(labels=[1, 2]), "Sweep.labels must be strings"),
    (lambda: _sweep(labels="ab"), "Sweep.labels needs strings, got 'ab'"),
    (lambda: _sweep(labels=["a", "x" * 300]), "has 300 characters; allowed"),
    (lambda: _sweep(baseline=3), "must be a label, an override dict or None"),
    (lambda: _sweep(baseline="dyte"), "Sweep.baseline 'dyte' fits no method"),
    (lambda: _sweep(metric="eval/accuracy"), "Give Sweep(mode='max')"),
    (
      lambda: _sweep(metric="eval/mean_corrupted_accuracy"),
      "is better where it is larger",
    ),
    (
      lambda: _sweep(metric="eval/recall_at_k(k=2)"),
      "'eval/recall_at_k(k=2)' is better where it is larger",
    ),
    (lambda: _sweep(metric="eval/loss", mode="max"), "Give Sweep(mode='min')"),
    (lambda: _sweep(mode="mni"), "'min', 'max', got 'mni'"),
    (lambda: _sweep(mode=np.ones(2)), "must be one of 'min', 'max', got arr"),
    (lambda: _sweep(divergence=np.ones(2)), "one of 'verdict', 'worst', got"),
    (lambda: _sweep(tune={RATE: [1, 2]}), "Sweep.tune must be a Tune"),
    (lambda: _tune(space={RATE: 0.1}), "needs a list of values, got 0.1"),
    (lambda: _tune(space={RATE: []}), "needs two or more different values"),
    (lambda: _tune(space={RATE: [0.1, math.nan]}), "nan is not finite"),
    (lambda: _tune(space={RATE: [1, 10**400]}), "is not finite as a float"),
    (
      lambda: _sweep(methods=[{RATE: 10**400}]),
      f"'{RATE}' is float (0.3); got 1000",
    ),
    (lambda: _tune(space={RATE: [0.1, 0.1]}), "two or more different"),
    (
      lambda: _tune(space={"evaluate.split": ["validation", "test"]}),
      "evaluate.split']: that is what trials are measured by",
    ),
    (
      lambda: _tune(space={"norm.name": [1, 2]}, relative=True),
      "method 'rms_norm': Tune.relative needs a number other than 0 at 'norm",
    ),
    (
      lambda: _tune(space={"optimizer.larning_rate": [1, 2]}, relative=True),
      "unknown config key 'optimizer.larning_rate'. Did you mean 'learning_ra",
    ),
    (lambda: _tune(space={"foo": [1, 2]}), "unknown config key 'foo'"),
    (lambda: _tune(space={"seed": [1, 2]}), "seeds go into Tune.seeds"),
    (
      lambda: _sweep(
        methods=[{RATE: 0.1}, {RATE: 0.2}], tune=Tune({RATE: [1, 2]})
      ),
      f"sets '{RATE}', which Tune.space varies",
    ),
    (lambda: _tune(limits={RATE: (1, 0)}), "must have low < high, got (1, 0)"),
    (lambda: _tune(limits={RATE: (0, math.nan)}), "must have low < high"),
    (lambda: _tune(limits={RATE: 1}), "needs (low, high), got 1"),
    (lambda: _tune(limits={RATE: (0.15, 1)}), "0.1 is beyond Tune.limits"),
    (lambda: _tune(limits={"norm.eps": (0, 1)}), "Tune.space does not vary it"),
    (lambda: _tune(max_extensions=1.5), "must be >= 0 and an integer, got 1.5"),
    (lambda: _tune(relative=1), "Tune.relative must be True or False"),
    (
      lambda: _tune(
        space=lambda config: {
          RATE: (1, 2, 3) if config.norm.name == "dyt" else (1, 2)
        }
      ),
      "every method gets the same number of trials: 'rms_norm' has 2, 'dyt'",
    ),
    (
      lambda: _tune(
        space=lambda config: {
          RATE if config.norm.name == "dyt" else "train.gradient_clip": (1, 2)
        }
      ),
      "'optimizer.learning_rate' is tuned for 'dyt', not for 'rms_norm', which",
    ),
    (
      lambda: _tune(
        search="quasi_random", trials=4, space={RATE: (0.1, 0.2, 0.3)}
      ),
      "'quasi_random' needs the limits (low, high), got [0.1, 0.2, 0.3]",
    ),
    (
      lambda: _tune(space=lambda config: 1 / 0),
      "Tune.space, the function '<lambda>', failed: ZeroDivisionError",
    ),
    (
      lambda: _sweep(
        methods=[{"norm.eps": 1e-6}, {"norm.eps": 1e-3}],
        tune=Tune(lambda config: {"norm.eps": [1e-5, 1e-4]}),
      ),
      "method {'norm.eps': 0.001} sets 'norm.eps', which the function of"
      " Tune.space varies over [1e-05, 0.0001] with and without it",
    ),
    (
      lambda: _tune(space=lambda config: 3),
      "Tune.space returned must be a mapping",
    ),
    (lambda: 3, "returned int; a Sweep or a list of override dicts"),
    (lambda: None, "returned NoneType; a Sweep or a list"),
    (lambda: {"a": 1}, "returned dict; a Sweep or a list"),
  ],
)
def test_messages(write, monkeypatch, make, message):
  with pytest.raises(errors.UserError) as error:
    _plan(write, monkeypatch, make)
  assert message in str(error.value)


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("sweep = 3", r"defines no sweep\(\)"),
    ("sweep = int", "returned int"),
    (
      "import sys\ndef sweep(): sys.exit(4)",
      r"failed: SystemExit: 4 \(line 3\)",
    ),
    ("def sweep():\n  yield {}\n  1 / 0", r"ZeroDivisionError.*\(line 4\)"),
    ("def sweep(): return [{'a': 1}]", "without 'seed', and the config has"),
  ],
)
def test_files(tmp_path, body, message):
  path = tmp_path / "c.py"
  path.write_text(f"def get_config(): pass\n{body}\n")
  with pytest.raises(errors.UserError, match=message):
    spec.load(str(path), configure.ConfigDict())


def test_numbers_of_numpy_and_iterators_are_taken():
  sweep = _sweep(
    methods=iter([{RATE: np.float32(0.5)}, {}]),
    seeds=np.arange(2),
    other_metrics=(name for name in ["train/loss"]),
    labels=iter("ab"),
  )
  assert sweep.methods == [{RATE: 0.5}, {}]
  assert type(sweep.methods[0][RATE]) is float
  assert sweep.seeds == (0, 1)
  assert type(sweep.seeds[0]) is int
  assert sweep.other_metrics == ("train/loss",)
  assert sweep.labels == ["a", "b"]
  tune = Tune({RATE: iter([1, 2])}, seeds=np.array([7]))
  assert tune.space == {RATE: (1, 2)}
  assert tune.seeds == (7,)


def test_a_baseline_of_tuples_fits_a_config_of_lists():
  configs = [
    configure.to_dict(
      configure.override(support.tiny(), {"log.probes": probes})
    )
    for probes in ((), ("scale/",))
  ]
  wanted = {"log.probes": ("scale/",)}
  assert labels.baseline(wanted, ["a", "b"], configs) == "b"


def test_a_function_may_start_from_what_a_method_sets(write, monkeypatch):
  def from_own(config):
    return {RATE: [config.optimizer.learning_rate * f for f in (0.5, 2.0)]}

  def or_fail(config):
    assert config.optimizer.learning_rate < 0.3  # The config's own.
    return {RATE: [0.5, 2.0]}

  methods = [{RATE: 0.1}, {RATE: 0.2}]
  for space in (from_own, or_fail):
    _plan(
      write,
      monkeypatch,
      lambda space=space: _sweep(methods=methods, tune=Tune(space)),
    )
  _plan(
    write,
    monkeypatch,
    lambda: _sweep(
      methods=methods, tune=Tune(lambda c: {RATE: [0.5, 2.0]}, relative=True)
    ),
  )


BAD_RUNS = {
  "metric": (
    {"metric": "eval/acuracy"},
    {},
    "'eval/acuracy' will be in no result. Did you mean 'eval/accuracy'",
  ),
  "other": (
    {"other_metrics": ["train/los"]},
    {},
    "Sweep.other_metrics 'train/los' will be in no result. Did you mean",
  ),
  "probes": ({}, {"log.probes": ("scael/",)}, "nothing matches 'scael/'"),
  "range": ({}, {"train.label_smoothing": 2.0}, "label_smoothing=2.0 must be"),
  "rate": ({}, {RATE: -0.1}, "optimizer.learning_rate=-0.1: "),
  "model": ({}, {"model.num_heads": 3}, "model.num_heads=3: "),
  "norm": ({}, {"norm.eps": -1.0}, "norm.eps=-1.0: "),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_a_dry_run_refuses_what_no_run_can_use(write_whole, monkeypatch, case):
  fields, overrides, message = BAD_RUNS[case]
  methods = [
    {**support.DECODER, **overrides},
    {**support.DECODER, **overrides, "norm.use_scale": False},
  ]
  with pytest.raises(errors.UserError) as error:
    _plan(
      write_whole,
      monkeypatch,
      lambda: _sweep(**{"methods": methods, **fields}),
      runner=api.RUNNER,
    )
  assert message in str(error.value)


def test_tuned_values_are_checked_too(write_whole, monkeypatch):
  tune = Tune({RATE: [-0.1, 0.1]})
  with pytest.raises(errors.UserError, match="learning_rate=-0.1"):
    _plan(
      write_whole,
      monkeypatch,
      lambda: _sweep(methods=[support.DECODER], tune=tune),
      runner=api.RUNNER,
    )


def test_what_final_runs_measure_is_checked_before_the_trials(
  write_whole, monkeypatch
):
  # Trials measure the tuning split, which the data has.
  method = {**support.DECODER, "evaluate.split": "test"}
  tune = Tune({RATE: [0.1, 0.2]})
  with pytest.raises(errors.UserError, match="has no split 'test'; allowed"):
    _plan(
      write_whole,
      monkeypatch,
      lambda: _sweep(methods=[method], tune=tune),
      runner=api.RUNNER,
    )


def test_a_probe_of_one_method_alone_is_no_error(write_whole, monkeypatch):
  methods = [
    {**support.DECODER, "log.probes": ("scale/",), "norm.name": name}
    for name in ("rms_norm", "identity")
  ]
  _plan(
    write_whole, monkeypatch, lambda: _sweep(methods=methods), runner=api.RUNNER
  )
