"""Disks that fail, and errors that must not hide behind others."""

import errno
import os
from pathlib import Path

import pytest

from normjax import cli, train
from normjax.record import files
from normjax.train import checkpoint
from tests import support


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """The config, and the result of a run that met no fault."""
  config = support.tiny()
  return config, train.run(config, tmp_path_factory.mktemp("straight"))


def test_rows_that_find_no_room_are_named_and_nothing_is_lost(
  straight, tmp_path, monkeypatch
):
  config, want = straight

  def stop(name, step):
    if (name, step) == ("step", 6):
      raise RuntimeError("stop")

  with pytest.raises(RuntimeError):
    train.run(config, tmp_path, stop)
  path = tmp_path / files.METRICS
  opened = files.MetricsFile.__init__

  def open_full(self, *arguments, **options):
    opened(self, *arguments, **options)
    self._file.close()
    self._file = Path("/dev/full").open("a")  # noqa: SIM115

  with monkeypatch.context() as patch:
    patch.setattr(files.MetricsFile, "__init__", open_full)
    with pytest.raises(OSError, match="No space left") as caught:
      train.run(config, tmp_path)
  assert (caught.value.errno, caught.value.filename) == (
    errno.ENOSPC,
    str(path),
  )
  assert files.read_json(tmp_path / files.STATUS)["state"] == "failed"
  assert train.run(config, tmp_path)["metrics"] == want["metrics"]
  # The fault came before anything new was saved.
  assert files.read_json(tmp_path / files.RUN)["resumed_at_steps"][-1] == 4


def test_a_file_where_a_folder_belongs(straight, tmp_path):
  config, _ = straight
  (tmp_path / files.CHECKPOINTS).write_text("a file")
  with pytest.raises(OSError, match=f"{tmp_path / files.CHECKPOINTS}"):
    train.run(config, tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("first")])
def test_closing_does_not_hide_what_came_first(
  straight, tmp_path, monkeypatch, error
):
  config, _ = straight

  real = checkpoint.Checkpoints.close

  def close(self):
    real(self)
    raise RuntimeError("cannot join thread before it is started")

  def fail(name, step):
    if (name, step) == ("step", 3):
      raise error

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.Checkpoints, "close", close)
    with pytest.raises(type(error)) as caught:
      train.run(config, tmp_path, fail)
  assert caught.value is error
  message = files.read_json(tmp_path / files.STATUS)["message"]
  assert message.startswith(type(error).__name__)


SWEEP = """
from normjax import configure
from normjax.sweep import grid
def get_config():
  return configure.load("configs/default.py")
def sweep():
  return grid(seed=[0, 1])
"""


@pytest.mark.parametrize("command", ["train", "sweep", "report"])
@pytest.mark.parametrize(
  ("where", "said"),
  [
    ("n" * 300, "File name too long"),
    ("file/out", "Not a directory"),
  ],
)
def test_a_folder_that_cannot_be_is_one_line(
  capsys, tmp_path, command, where, said
):
  (tmp_path / "file").write_text("a file")
  (tmp_path / "sweep.py").write_text(SWEEP)
  out = tmp_path / where
  arguments = {
    "train": ["train", "configs/default.py", f"--out={out}"],
    "sweep": ["sweep", str(tmp_path / "sweep.py"), f"--out={out}"],
    "report": ["report", str(out)],
  }[command]
  if command == "report" and said == "Not a directory":
    said = "has no plan.json and no runs"
  assert cli.main(arguments) == 2
  captured = capsys.readouterr()
  assert said in captured.err
  assert captured.err.count("\n") == 1
  assert str(out)[:30] in captured.err  # A long name may be cut.


@pytest.mark.parametrize(
  "number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES]
)
def test_a_disk_that_fails_under_any_command_is_one_line(
  capsys, tmp_path, monkeypatch, number
):
  """Root writes where others may not: the error is made."""

  def fail(*arguments, **options):
    raise OSError(number, os.strerror(number), str(tmp_path / "x"))

  monkeypatch.setattr(files, "write_text", fail)
  code = cli.main(
    [
      "train",
      "configs/default.py",
      f"--out={tmp_path}",
      *support.flags(support.DECODER),
    ]
  )
  said = capsys.readouterr().err
  assert code == 2
  assert said.count("\n") == 1
  assert str(tmp_path / "x") in said
  assert os.strerror(number).split()[0].lower() in said.lower()
  assert "run the same command again" in said
