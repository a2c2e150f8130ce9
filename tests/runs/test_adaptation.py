"""A run's model on a stream: the record, the command, bad input."""

import json
import types

import numpy as np
import pytest

from normjax import cli, errors, load_run, train
from normjax.adapt import loop, sources
from normjax.adapt.protocol import Protocol
from normjax.nn.norm_layer import NormLayer
from normjax.record import files
from normjax.report import load
from normjax.runs import adaptation
from tests import support

CORRUPTIONS = ("clean", "contrast", "brightness_2")
NAMES = ("clean", "contrast_5", "brightness_2")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("runs") / "run"
  train.run(support.tiny_mlp(), path)
  return path


def test_a_stream_is_recorded(directory):
  run = load_run(directory)
  given = {
    "how": Protocol(batch_size=16),
    "corrupted_by": CORRUPTIONS,
    "num_examples": 40,
  }
  result = adaptation.adapt_run(run, "alpha_bn(test_weight=0.3)", **given)
  means = result["metrics"]
  each = [means[f"eval/accuracy/{name}"] for name in NAMES]
  assert result["state"] == "done"
  assert result[files.EVAL_EXAMPLES] == 120
  np.testing.assert_allclose(means["eval/accuracy"], np.mean(each))
  (path,) = (directory / "adapt").iterdir()
  told = json.loads((path / files.RUN).read_text())
  assert told["seen"] == "statistics"
  assert told["config"]["adapt"]["domains"] == list(NAMES)
  sweep = load.load(directory / "adapt")
  assert (sweep.metric, sweep.mode) == ("eval/accuracy", "max")
  assert sweep.problems == ()
  shown = [f"eval/accuracy/{name}" for name in NAMES]
  assert sweep.other_metrics == (*shown, "eval/loss")
  assert told["config"]["model"]["name"] == "mlp"
  # 40 examples in batches of 16, three domains.
  rows = support.rows(path, "train")
  assert [row["step"] for row in rows] == [*range(9)]
  with pytest.raises(errors.RunError, match="has no model of its own"):
    load_run(path)
  # What is there is not computed again.
  assert adaptation.adapt_run(run, "alpha_bn(test_weight=0.3)", **given) == (
    result
  )


def test_what_is_not_finite_has_diverged(directory, capsys, tmp_path):
  arguments = [
    "adapt", str(directory), "--corruptions=clean", "--num_examples=48",
    "--batch_size=8", f"--out={tmp_path}",
    "--method=tent(learning_rate=3e38, optimizer='sgd')",
  ]  # fmt: skip
  assert cli.main(arguments) == 0
  assert "diverged at step" in capsys.readouterr().out
  (path,) = tmp_path.iterdir()
  result = json.loads((path / files.RESULT).read_text())
  assert result["state"] == "diverged"
  assert 0 < result["diverged_at_step"] < 6
  assert result["metrics"]["eval/loss"] is None


def test_models_that_read_domains_are_refused():
  norm = NormLayer("dsbn(num_domains=2)", (3,))
  run = types.SimpleNamespace(
    data=types.SimpleNamespace(targets="classes"), model=norm
  )
  with pytest.raises(errors.UserError, match="'dsbn'.*reads the domain"):
    adaptation.adapt_run(run, "source", how=Protocol())
  run.data = types.SimpleNamespace(targets="values", name="diabetes")
  with pytest.raises(errors.UserError, match="'diabetes'.*targets='values'"):
    adaptation.adapt_run(run, "source", how=Protocol())


def test_clean_images_by_source_are_the_runs_own_evaluation(directory):
  run = load_run(directory)
  result = adaptation.adapt_run(
    run, "source", how=Protocol(), corrupted_by=("clean",)
  )
  expected = run.evaluate(num_batches=0)
  for name in ("accuracy", "loss"):
    np.testing.assert_allclose(
      result["metrics"][f"eval/{name}"], expected[name], rtol=1e-5
    )


def test_domains_by_name():
  names = sources.domain_names
  assert names(("contrast", "clean", "snow_2", "contrast_3"), 3) == (
    "contrast_3",
    "clean",
    "snow_2",
  )
  assert len(names(("common",), 5)) == 14
  # The authors' images have the kinds that we leave out.
  theirs = names(("common",), 5, True)
  assert len(theirs) == 15
  assert "frost_5" in theirs
  with pytest.raises(errors.UserError, match="'frost' is left out"):
    names(("frost",), 5)
  with pytest.raises(errors.UserError, match="outside 1 to 5"):
    names(("frost",), 6, True)


def test_the_command_prints_what_was_found(directory, capsys, tmp_path):
  arguments = [
    "adapt", str(directory), "--method=source", "--method=tent",
    "--stream=mixed_domains_correlated", "--corruptions=clean,contrast",
    "--num_examples=20", f"--out={tmp_path}",
  ]  # fmt: skip
  assert cli.main(arguments) == 0
  said = capsys.readouterr().out
  assert "source, mixed_domains_correlated" in said
  assert "accuracy/contrast_5" in said
  assert "mean_corrupted_accuracy" in said
  assert len(list(tmp_path.iterdir())) == 2


def test_what_is_over_is_skipped_and_what_was_cut_short_begins_again(
  directory, capsys, tmp_path, monkeypatch
):
  arguments = [
    "adapt", str(directory), "--method=source", "--method=batch",
    "--corruptions=clean", "--num_examples=40", "--batch_size=20",
    f"--out={tmp_path}",
  ]  # fmt: skip
  whole, seen = loop.run, []

  def stopped(made, domains, how, observe):
    def stop(score):
      observe(score)
      if made.name == "batch" and len(seen) == 2:
        raise KeyboardInterrupt

    seen.append(made.name)
    return whole(made, domains, how, stop)

  monkeypatch.setattr(loop, "run", stopped)
  assert cli.main(arguments) == 130
  assert "the same command" in capsys.readouterr().err
  assert cli.main(arguments) == 0
  assert seen == ["source", "batch", "batch"]
  notes = {}
  for path in tmp_path.iterdir():
    told = json.loads((path / files.RUN).read_text())
    notes[told["config"]["adapt"]["method"]] = told["problems"]
    assert [row["step"] for row in support.rows(path, "train")] == [0, 1]
  assert notes["source"] == []
  assert "began again" in notes["batch"][0]


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ([], "needs --method: one of source, batch"),
    (["--method=tnet"], "unknown adaptation method 'tnet'"),
    (["--method=tent(lr=1)"], "no option 'lr'"),
    (["--method=iabn"], "iabn is for iabn"),
    (["--method=tent", "--stream=mixed"], "setting='mixed'"),
    (["--method=tent", "--severity=6"], "severity 6 is outside 1 to 5"),
    (["--method=tent", "--corruptions=snoww"], "unknown corruption 'snoww'"),
    (["--method=tent", "--split=test"], "test"),
    (["--method=tent", "--data=iris"], "reads"),
    (["--method=tent", "--data=digits(fodls=2)"], "fodls"),
    (["--method=tent", "--step=3"], "no checkpoint of step 3"),
  ],
)
def test_bad_input_is_one_line(directory, capsys, flags, said):
  before = sorted(directory.rglob("*"))
  assert cli.main(["adapt", str(directory), *flags]) == 2
  error = capsys.readouterr().err
  assert said in error
  assert error.count("\n") == 1
  assert sorted(directory.rglob("*")) == before
