"""Which errors are the machine's, in whose words they may come."""

import errno
import os
import pathlib
import types

import pytest

from normjax import errors, faults


@pytest.mark.parametrize("number", faults.DISK_ERRORS)
def test_a_disk_s_error_in_python_s_words_and_in_tensorstore_s(number):
  error = OSError(number, os.strerror(number), "/data/x")
  assert faults.disk(error) is error
  text = f"FAILED_PRECONDITION: Error writing a file [{os.strerror(number)}]"
  assert faults.disk(ValueError(text)).errno == number
  wrapped = RuntimeError("a library's own")
  wrapped.__cause__ = error
  assert faults.disk(wrapped) is error
  assert faults.describe(error) == (
    f"cannot use /data/x: {os.strerror(number)}"
  )


@pytest.mark.parametrize(
  "error",
  [
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ValueError("shapes (2,) and (3,)"),
    errors.UserError("train.batch_size=0 must be at least 1."),
    KeyError("Permission denied"),
  ],
)
def test_other_errors_are_no_disk_s(error):
  assert faults.disk(error) is None
  assert not faults.is_memory(error)


@pytest.mark.parametrize(
  "error",
  [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("can't start new thread"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."),
    RuntimeError("std::bad_alloc"),
  ],
)
def test_memory_that_ran_out(error):
  assert faults.is_memory(error)
  assert faults.disk(error) is None


def test_a_folder_where_none_can_be_is_the_disk_s_error(monkeypatch, tmp_path):
  """As /proc answers; there is no such file system everywhere."""
  faults.make_folder(tmp_path / "a" / "b")
  faults.make_folder(tmp_path / "a" / "b")

  def mkdir(path, **_):
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

  monkeypatch.setattr(pathlib.Path, "mkdir", mkdir)
  with pytest.raises(OSError, match="No folder can be made there") as raised:
    faults.make_folder(tmp_path / "c")
  assert faults.disk(raised.value) is raised.value


def test_a_full_disk_is_no_lack_of_memory():
  error = ValueError("RESOURCE_EXHAUSTED: Failed: No space left on device")
  assert faults.disk(error).errno == errno.ENOSPC
  assert not faults.is_memory(error)


def test_many_lines_become_one():
  error = RuntimeError("RESOURCE_EXHAUSTED: Out\n  of memory\n\n" + "x" * 999)
  said = faults.one_line(error)
  assert said.startswith("RuntimeError: RESOURCE_EXHAUSTED: Out of memory xxx")
  assert said.endswith("x ...")
  assert len(said) < 450
  assert faults.one_line(MemoryError()) == "MemoryError"


def test_an_error_without_a_name_gets_the_file_s():
  with (
    pytest.raises(OSError, match="No space") as caught,
    faults.naming("/data/rows"),
  ):
    raise OSError(errno.ENOSPC, "No space left on device")
  assert caught.value.filename == "/data/rows"
  with (
    pytest.raises(OSError, match="No space") as caught,
    faults.naming("/data/rows"),
  ):
    raise OSError(errno.ENOSPC, "No space left on device", "/other")
  assert caught.value.filename == "/other"


def test_writes_that_end_after_their_loop_are_left_out():
  reported = []
  hook = faults.late_callbacks(reported.append)
  late, other = (
    types.SimpleNamespace(exc_value=RuntimeError(text))
    for text in ("Event loop is closed", "another")
  )
  hook(late)
  hook(other)
  assert reported == [other]
