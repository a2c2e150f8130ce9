"""Probes of runs and of released weights: the record, the page, bad input."""

import shutil
from pathlib import Path

import pytest

from normjax import cli, load_run, report, train
from normjax.record import probe_file
from normjax.runs import probing
from tests import support

WEIGHTS = Path(__file__).parents[1] / "convert/recorded/gpt2"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("runs") / "run"
  train.run(
    support.tiny({"train.num_steps": 2, "checkpoint.every_steps": 2}), path
  )
  return path


def test_a_run_is_probed_and_its_page_tells(directory, capsys):
  assert cli.main(["probe", str(directory), "--num_examples=2"]) == 0
  said = capsys.readouterr().out
  assert "lens_kl" in said
  assert "massive activations: none" in said
  value = probe_file.read(directory / "probe").value
  assert value["of"]["run_id"] == load_run(directory).run_id
  assert value["of"]["step"] == 2
  assert value["of"]["data"] == "shakespeare"
  assert value["of"]["shape"] == [16]
  assert value["left_out"] == {}
  drawn = {path.name for path in (directory / "probe/figures").iterdir()}
  assert {"probe_depth_1.svg", "probe_position.pdf"} <= drawn
  paths = report.write_report(directory.parent)
  (page,) = (paths.html.parent / "runs").glob("*.html")
  text = page.read_text()
  assert "<h2>Inside</h2>" in text
  assert "2 examples of shakespeare, validation, at step 2" in text
  assert "attention to the first token" in text


def test_what_was_found_of_something_else_stays(directory, tmp_path, capsys):
  folder = shutil.copytree(directory, tmp_path / "run")
  of = {"run_id": load_run(folder).run_id, "step": 1, "num_examples": 2}
  told = {"of": of, "left_out": {}}
  path = probe_file.write(folder / "probe", told)
  before = path.read_bytes()
  command = ["probe", str(folder), "--num_examples=2"]
  assert cli.main(command) == 2
  said = capsys.readouterr().err
  assert "probe has what was found of something else: data was absent" in said
  assert "step was 1, is 2. Give another --out, or --overwrite" in said
  assert path.read_bytes() == before
  assert cli.main([*command, "--overwrite"]) == 0
  assert cli.main(command) == 0  # The same again.
  assert probe_file.read(folder / "probe").value["of"]["step"] == 2


def test_a_damaged_probe_costs_its_section_alone(directory, tmp_path):
  folder = shutil.copytree(directory, tmp_path / "runs" / "run")
  (folder / "probe").mkdir(exist_ok=True)
  (folder / "probe" / "probe.json").write_text("{")
  paths = report.write_report(folder.parent)
  (page,) = (paths.html.parent / "runs").glob("*.html")
  assert "probe.json is not valid JSON" in page.read_text()
  assert "<h2>Inside</h2>" not in page.read_text()


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
  """Text of bytes below 50, the vocabulary of the recorded weights."""
  path = tmp_path_factory.mktemp("text") / "sums.txt"
  path.write_text("".join(f"{n:b}+{n % 7:b} - 10\n" for n in range(200)))
  return (
    f"--data=text_files(files='{path}', document='line', sequence_length=8)"
  )


def test_released_weights(sums, tmp_path, capsys, monkeypatch):
  # Drawn are those of the run above.
  monkeypatch.setattr(probing.redraw, "draw", lambda figures, folder: [])
  out = tmp_path / "out"
  code = cli.main(
    ["probe", str(WEIGHTS), f"--out={out}", "--num_examples=2", sums]
  )
  assert code == 0, capsys.readouterr().err
  value = probe_file.read(out).value
  assert value["of"]["folder"] == "gpt2"
  assert value["of"]["model"] == "GPT2"
  assert value["blocks"] == ["layers/0", "layers/1"]


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([str(WEIGHTS)], "released weights bring no data; --data is needed"),
    ([str(WEIGHTS), "--step=3"], "is no run (run.json), and has no step 3"),
    (["nowhere"], "nowhere does not exist"),
    ([str(WEIGHTS), "--data=digits"], "GPT2 reads tokens; data 'digits' has"),
    ([str(WEIGHTS), "--num_examples=0"], "num_examples"),
    ([], "needs one run directory, or weights, got 0"),
  ],
)
def test_bad_input(arguments, said, capsys):
  assert cli.main(["probe", *arguments]) == 2
  error = capsys.readouterr().err
  assert said in error
  assert error.count("\n") == 1


def test_weights_need_a_folder_for_what_is_found(sums, capsys):
  assert cli.main(["probe", str(WEIGHTS), sums]) == 2
  assert "--out is needed" in capsys.readouterr().err


def test_a_split_that_there_is_not(directory, capsys):
  assert cli.main(["probe", str(directory), "--split=last"]) == 2
  assert "split='last'" in capsys.readouterr().err
