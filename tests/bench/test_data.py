"""`normjax bench data` at tiny sizes."""

import errno
import json

import pytest

from normjax import cli, faults
from normjax.bench import data as data_bench


def _measured(tmp_path, capsys, monkeypatch, *flags):
  monkeypatch.setattr(data_bench, "_LEAST_ROUNDS", 1)
  monkeypatch.setattr(data_bench, "_BATCHES", 2)
  given = ["--repeats=1", "--batch_size=2", f"--out={tmp_path}", *flags]
  code = cli.main(["bench", "data", *given])
  said = capsys.readouterr()
  assert code == 0, said.err
  results = json.loads((tmp_path / "data.json").read_text())["results"]
  assert all(result["per_s"] > 0 for result in results)
  return results, said.out


@pytest.mark.slow
def test_text_and_images_are_measured(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(data_bench, "_NUM_IMAGES", 24)
  results, said = _measured(tmp_path, capsys, monkeypatch, "--length=8")
  ahead = ["none", "1 thread", "2 threads"]
  names = [(result["name"], result["ahead"]) for result in results]
  assert names == [
    *(("text, encoded as drawn", each) for each in ahead),
    *(("text, token cache", each) for each in ahead),
    ("text, stream in memory", "none"),
    *(("images, JPEG", each) for each in ahead),
  ]
  assert "an assumption, nothing of it was measured" in " ".join(said.split())


def test_the_data_of_a_config_is_measured(tmp_path, capsys, monkeypatch):
  config = "--data=configs/default.py"
  (result,), said = _measured(tmp_path, capsys, monkeypatch, config)
  assert (result["name"], result["ahead"]) == ("shakespeare", "none")
  assert result["unit"] == "tokens"
  assert result["per_s"] == pytest.approx(2 * 64 / result["batch_s"])
  assert "shakespeare" in said


def test_a_config_that_is_not_there_is_named(capsys):
  assert cli.main(["bench", "data", "--data=nope.py"]) == 2
  assert "nope.py" in capsys.readouterr().err


def test_a_file_that_is_no_run_s_config_is_named(capsys):
  assert cli.main(["bench", "data", "--data=configs/data/digits.py"]) == 2
  assert "digits.py has no data and no train block" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_before_all_is_measured(
  tmp_path, capsys, monkeypatch
):
  def refuse(dir):
    raise PermissionError(errno.EACCES, "Permission denied", str(dir))

  monkeypatch.setattr(faults.tempfile, "TemporaryFile", refuse)
  monkeypatch.setattr(data_bench, "_of_config", None)
  given = ["--data=configs/default.py", f"--out={tmp_path}"]
  assert cli.main(["bench", "data", *given]) == 2
  assert f"{tmp_path}: Permission denied" in capsys.readouterr().err
