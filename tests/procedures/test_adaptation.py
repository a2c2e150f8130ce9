"""Adaptation at the end of a run: the numbers of `normjax adapt`."""

import os

import numpy as np
import pytest

from normjax import build, configure, errors, load_run, stopping, train
from normjax.adapt import loop
from normjax.adapt.protocol import Protocol
from normjax.record import files
from normjax.runs import adaptation
from normjax.train import check, entry, preview
from tests import support

ADAPT = {
  "evaluate.adapt.methods": ("tent(learning_rate=0.01)", "batch"),
  "evaluate.adapt.corruptions": ("clean", "contrast", "brightness_2"),
  "evaluate.adapt.stream": "continual_correlated",
  "evaluate.adapt.batch_size": 16,
  "evaluate.adapt.num_examples": 40,
}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
  config = support.tiny_mlp(ADAPT)
  directory = tmp_path_factory.mktemp("adapted")
  train.run(config, directory)
  return config, directory


def test_columns_are_the_numbers_of_the_command(adapted, tmp_path):
  config, directory = adapted
  measured = files.read_json(directory / files.RESULT)["metrics"]
  how = Protocol("continual_correlated", batch_size=16, seed=config.seed)
  for method in config.evaluate.adapt.methods:
    found = adaptation.adapt_run(
      load_run(directory),
      method,
      how=how,
      corrupted_by=config.evaluate.adapt.corruptions,
      num_examples=40,
      out=tmp_path,
    )["metrics"]
    name = method.partition("(")[0]
    each = {k: v for k, v in found.items() if k.startswith("eval/")}
    assert len(each) > 8
    for key, value in each.items():
      column = f"eval/adapt/{name}/{key.removeprefix('eval/')}"
      np.testing.assert_allclose(measured[column], value, rtol=1e-5)
  assert {*measured} == {*preview.preview(config).metrics}
  # What was trained is what it is without a stream.
  assert measured["eval/accuracy"] == load_run(directory).evaluate()["accuracy"]
  rows = support.rows(directory, "eval")
  assert [any("adapt" in key for key in row) for row in rows] == (
    [False] * (len(rows) - 1) + [True]
  )


def test_members_of_a_population_adapt_each_its_own(tmp_path):
  """Each what `normjax adapt` gives of its checkpoint, with its seed."""
  runs = [
    entry.Run(support.tiny_mlp(ADAPT, {"seed": seed}), tmp_path / str(seed))
    for seed in (1, 2)
  ]
  results = entry.run_together(runs, most=2)
  for run, result in zip(runs, results, strict=True):
    told = files.read_json(run.directory / files.RUN)["provenance"]
    assert told["population"]["size"] == 2
    seed = run.config.seed
    how = Protocol("continual_correlated", batch_size=16, seed=seed)
    found = adaptation.adapt_run(
      load_run(run.directory),
      "batch",
      how=how,
      corrupted_by=run.config.evaluate.adapt.corruptions,
      num_examples=40,
    )["metrics"]
    for name in ("accuracy", "loss", "loss/contrast_5"):
      np.testing.assert_allclose(
        result["metrics"][f"eval/adapt/batch/{name}"],
        found[f"eval/{name}"],
        rtol=1e-5,  # As above.
      )


def test_of_one_method_columns_have_no_name():
  """So that rows of a sweep have one metric."""
  one = support.tiny_mlp(ADAPT, {"evaluate.adapt.methods": ("tent",)})
  names = preview.preview(one).metrics
  assert "eval/adapt/accuracy" in names
  assert "eval/adapt/accuracy/contrast_5" in names
  two = ("tent", "tent(learning_rate=0.1)")
  both = support.tiny_mlp(ADAPT, {"evaluate.adapt.methods": two})
  assert f"eval/adapt/{two[1]}/accuracy" in preview.preview(both).metrics


def test_programs_and_runs_without_a_stream_are_what_they_were():
  plain, adapted = support.tiny_mlp(), support.tiny_mlp(ADAPT)
  assert build.program_key(plain) == build.program_key(adapted)
  assert configure.run_id(plain) != configure.run_id(adapted)
  assert "adapt" not in configure.to_dict(plain)["evaluate"]


def test_a_stream_that_is_interrupted_is_made_anew(
  adapted, tmp_path, monkeypatch
):
  config, directory = adapted
  whole, calls = loop.run, []

  def interrupted(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
      os.kill(os.getpid(), 15)
    return whole(*arguments)

  monkeypatch.setattr(loop, "run", interrupted)
  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path)
  monkeypatch.undo()
  train.run(config, tmp_path)
  for kind in ("train", "eval"):
    assert support.rows(tmp_path, kind) == support.rows(directory, kind)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"methods": ("tint",)}, "evaluate.adapt: unknown .*'tent'"),
    ({"methods": ("tent", "tent")}, "evaluate.adapt: methods=.* twice"),
    ({"stream": "continuous"}, "evaluate.adapt: .*setting='continuous'"),
    ({"corruptions": ("frog",)}, "evaluate.adapt: .*'frog'"),
    ({"corruptions": ()}, "corruptions=.*needed: one, or 'clean'"),
    ({"methods": ()}, "evaluate.adapt.batch_size=16: nothing reads it"),
  ],
)
def test_bad_configs_are_refused(changes, message):
  named = {f"evaluate.adapt.{key}": value for key, value in changes.items()}
  with pytest.raises(errors.UserError, match=message) as error:
    check.check(support.tiny_mlp(ADAPT, named))
  assert "\n" not in str(error.value)


def test_what_answers_per_token_is_refused_before_it_is_trained():
  clean = {"evaluate.adapt.corruptions": ("clean",)}
  with pytest.raises(errors.UserError, match="16 targets per example, as tok"):
    preview.preview(support.tiny(ADAPT, clean))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"evaluate.adapt.methods": ("tent(learning_rate=-1.0)",)},
      r"evaluate.adapt.methods: 'tent\(.*learning_rate=-1.0",
    ),
    ({"norm.name": "identity"}, "evaluate.adapt.methods: 'tent"),
    ({"evaluate.adapt.batch_size": 1}, "evaluate.adapt.methods: "),
  ],
)
def test_what_a_model_cannot_is_refused_before_it_is_trained(changes, message):
  with pytest.raises(errors.UserError, match=message):
    preview.preview(support.tiny_mlp(ADAPT, changes))
