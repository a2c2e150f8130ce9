"""`Sweep.costs`: the file, the labels, and what a plan has of them."""

import dataclasses
import json

import pytest

from normjax import errors
from normjax.record import costs as record
from normjax.sweep import Costs, Ladder, Sweep, api, costs

FILE = """
from normjax import configure
from normjax import sweep as space

ROWS = {"adamw": {"optimizer.name": "adamw"}, "sgd": {"optimizer.name": "sgd"}}


def get_config(arg=""):
  return configure.load("configs/default.py")


def sweep(arg=""):
  return space.Sweep(
    methods=[*ROWS.values()], labels=[*ROWS], seeds=(0, 1),
    costs=space.Costs("bytes.json"),
  )


def large(arg=""):
  base = configure.override(get_config(), {"model.model_dim": 128})
  rows = {k: configure.override(base, v) for k, v in ROWS.items()}
  return rows if arg != "fewer" else {"adamw": rows["adamw"]}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A sweep file in the current folder, and costs of both methods."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.py").write_text(FILE)
  write(tmp_path)
  return tmp_path


def write(folder, **changes):
  numbers = {field.name: 3 for field in dataclasses.fields(record.Cost)}
  entries = {
    label: {"fingerprint": costs.fingerprint(config), **numbers, "flops": None}
    for label, config in costs.large("mine.py", ("adamw", "sgd")).items()
  }
  value = {
    "sweep": "mine",
    "target": "h200",
    "model": "llama",
    "methods": entries,
    **changes,
  }
  (folder / "bytes.json").write_text(json.dumps(value))
  return entries


def prepared(path="mine.py"):
  return api.Prepared(path, "out", program_key=lambda config: "p")


def test_a_plan_has_the_costs_of_its_methods(folder):
  first = prepared()
  first.planner.write(first.state.plan)
  plan = json.loads((folder / "out" / "plan.json").read_text())
  found = record.from_json(plan["costs"])
  assert [*found.methods] == ["adamw", "sgd"]
  assert found.methods["sgd"].peak_bytes == 3
  assert (found.target, found.file) == ("h200", "bytes.json")
  assert not found.missing
  # They decide nothing: the sweep is the same without them.
  text = FILE.replace("costs=", "").replace('space.Costs("bytes.json"),', "")
  (folder / "mine.py").write_text(text)
  assert prepared().state.plan.sweep_id == plan["sweep_id"]


def test_what_is_missing_is_named(folder):
  entries = write(folder)
  stale = {**entries["adamw"], "fingerprint": "0" * 12}
  failed = {"fingerprint": entries["sgd"]["fingerprint"], "error": "too large"}
  for methods, missing in (
    ({"adamw": stale, "sgd": failed, "other": failed}, {
      "adamw": "compiled with another config", "sgd": "too large",
    }),
    ({"adamw": entries["adamw"]}, {"sgd": "not compiled"}),
  ):  # fmt: skip
    write(folder, methods=methods)
    found = costs.look_up(Costs("bytes.json"), "mine.py", ("adamw", "sgd"))
    assert found.missing == missing


def test_a_rate_is_no_other_program(folder):
  (config,) = costs.large("mine.py:fewer", ("adamw",)).values()
  before = costs.fingerprint(config)
  config.optimizer.learning_rate *= 2
  config.train.num_steps += 1
  assert costs.fingerprint(config) == before
  config.model.model_dim *= 2
  assert costs.fingerprint(config) != before


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"sweep": "theirs"}, "has sweep='theirs'; allowed for mine.py: 'mine'"),
    ({"target": None}, "a file of `normjax bench memory` is needed"),
    ({"methods": {"sgd": {"fingerprint": "a"}}}, "methods has 'sgd'"),
  ],
)
def test_another_file(folder, changes, words):
  write(folder, **changes)
  with pytest.raises(errors.UserError, match=words):
    prepared()


def test_no_file_says_how_to_make_one(folder):
  (folder / "bytes.json").unlink()
  words = (
    "no file 'bytes.json'; allowed: one that `normjax bench memory mine.py"
  )
  with pytest.raises(errors.UserError, match=words):
    prepared()


def test_other_labels(folder):
  words = r"sweep\(\) of mine.py:fewer has sgd, large\(\) has not; allowed"
  with pytest.raises(errors.UserError, match=words):
    prepared("mine.py:fewer")


def test_no_large(folder):
  (folder / "mine.py").write_text(FILE.replace("def large", "def small"))
  with pytest.raises(errors.ConfigError, match=r"mine.py defines no large\(\)"):
    prepared()


def test_what_a_sweep_refuses():
  with pytest.raises(errors.UserError, match="must be a Costs or None, got 'a"):
    Sweep([{"a": 1}], costs="a.json")
  with pytest.raises(errors.UserError, match="Costs.file is 'bytes'; allowed"):
    Costs("bytes")
  with pytest.raises(errors.UserError, match="Sweep.ladder do not go together"):
    Sweep(
      [{"a": 1}, {"a": 2}],
      baseline={"a": 1},
      costs=Costs("a.json"),
      ladder=Ladder(sizes={"1": {"b": 1}, "2": {"b": 2}}, budgets=(10, 20)),
    )
