"""Workers out of memory, and disks that fail below a sweep."""

import contextlib
import json
import shutil

import pytest
from in_process import InProcess
from toy_runner import logs, results

from normjax import errors
from normjax.record import directory
from normjax.sweep import local


def sweep(kind, seeds=2):
  return f"""[{{"toy.name": n, "toy.trouble": t, "seed": s}}
    for n, t in (("a", ""), ("bb", "{kind}")) for s in range({seeds})]"""


def failed(out):
  rows = map(json.loads, (out / directory.ATTEMPTS).read_text().splitlines())
  return [row for row in rows if row["state"] == "failed"]


@pytest.mark.parametrize(
  ("executor", "kind", "message"),
  [
    ("local", "memory", "out of memory: MemoryError"),
    (
      InProcess,
      "device_memory",
      "out of memory: RuntimeError: RESOURCE_EXHAUSTED: Out of",
    ),
    (
      InProcess,
      "thread",
      "out of memory: RuntimeError: can't start new thread",
    ),
  ],
)
def test_a_worker_out_of_memory_is_replaced_and_the_point_tried_again(
  write_config, run_toy, tmp_path, executor, kind, message
):
  out = tmp_path / "out"
  summary = run_toy(
    write_config(sweep(f"{kind}:1")), out, workers=1, executor=executor
  )
  assert (summary.num_done, summary.exit_code) == (4, 0)
  # No point pays for another one's memory.
  assert len(failed(out)) == 2
  for row in failed(out):
    assert row["message"].startswith(message)
    assert "\n" not in row["message"]
  assert len({row["run_id"] for row in failed(out)}) == 2


def test_memory_that_never_suffices_is_exit_1(write_config, run_toy, tmp_path):
  out = tmp_path / "out"
  summary = run_toy(write_config(sweep("memory", seeds=1)), out, workers=1)
  assert (summary.num_done, summary.exit_code) == (1, 1)
  assert list(summary.failed.values()) == ["out of memory: MemoryError"]
  assert len(failed(out)) == 2


@pytest.mark.parametrize(
  ("executor", "kind", "message"),
  [
    (
      "local",
      "disk",
      r"cannot use /data/x: No space left on device\. What is done is",
    ),
    (
      InProcess,
      "cache",
      r"cannot write the cache: full\. What is done is kept",
    ),
  ],
)
def test_a_worker_s_disk_fault_ends_the_sweep(
  write_config, run_toy, tmp_path, executor, kind, message
):
  out = tmp_path / "out"
  options = {"workers": 1, "executor": executor}
  config = write_config(sweep(f"{kind}:1"))
  for num_failed in (1, 2):  # One for each of the two points that meet it.
    with pytest.raises(errors.RunError, match=message):
      run_toy(config, out, **options)
    assert len(failed(out)) == num_failed
  assert len(results(out)) >= 2  # What came before is kept.
  assert run_toy(config, out, **options).num_done == 4
  assert all(lines.count("begin") <= 2 for lines in logs(out).values())


def test_a_run_that_fails_after_its_result_is_over(
  write_config, run_toy, tmp_path
):
  out = tmp_path / "out"
  summary = run_toy(write_config(sweep("late")), out, retries=0)
  assert (summary.num_done, summary.exit_code) == (4, 0)
  assert len(failed(out)) == 2


def test_a_folder_in_use_is_tried_again(write_config, run_toy, tmp_path):
  out = tmp_path / "out"
  summary = run_toy(write_config(sweep("busy:1")), out)
  assert summary.num_done == 4
  assert {row["message"] for row in failed(out)} == {
    "BusyRunError: in use by another run"
  }


def test_no_memory_for_another_worker(
  write_config, run_toy, tmp_path, monkeypatch
):
  worker, started = local.Worker, []

  def short(*arguments):
    if started:
      raise OSError(12, "Cannot allocate memory")
    started.append(worker(*arguments))
    return started[0]

  monkeypatch.setattr(local, "Worker", short)
  options = {"executor": "local"}
  config = write_config(sweep(""))
  assert run_toy(config, tmp_path / "out", **options).num_done == 4
  with pytest.raises(errors.RunError, match="do not start: Cannot allocate"):
    run_toy(config, tmp_path / "other", **options)


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (OSError(30, "Read-only file system"), "Read-only file system"),
    (OSError(27, "File too large"), "File too large"),
    (OSError(122, "Disk quota exceeded"), "Disk quota exceeded"),
  ],
)
def test_the_sweep_s_own_files(
  write_config, run_toy, tmp_path, monkeypatch, error, said
):
  def fail(*arguments, **facts):
    raise error

  monkeypatch.setattr(directory.Attempts, "add", fail)
  with pytest.raises(errors.RunError, match=f"{said}. What is done is kept"):
    run_toy(write_config(sweep("", seeds=1)), tmp_path / "out")


def test_a_ledger_that_finds_no_room(
  write_config, run_toy, tmp_path, monkeypatch
):
  @contextlib.contextmanager
  def full(out):
    with open("/dev/full", "ab") as file:
      yield directory.Attempts(file)

  monkeypatch.setattr(directory.SweepDirectory, "open_attempts", full)
  with pytest.raises(
    errors.RunError, match=r"No space left on device\. What is done is kept"
  ):
    run_toy(write_config(sweep("", seeds=1)), tmp_path / "out")
  assert (tmp_path / "out" / "plan.json").exists()


TUNED = """Sweep(
  methods=grid("toy.name", ["a", "bb"]), seeds=(0, 1),
  tune=Tune({"optimizer.learning_rate": log_grid(0.01, 1.0, 3)}))"""


# Too small for a launcher's sign of life; for the plan; for a tenth attempt.
@pytest.mark.parametrize("most_bytes", [100, 2_000, 50_000])
def test_no_file_can_grow(
  write_config, start_toy, run_toy, tmp_path, most_bytes
):
  """As on a disk that is full, or beyond a quota."""
  config, out = write_config(TUNED), tmp_path / "out"
  if most_bytes > 2_000:
    out.mkdir()
    (out / directory.ATTEMPTS).write_bytes(b"\n" * (most_bytes - 1_000))
  process = start_toy(config, out, most_bytes=most_bytes)
  _, said = process.communicate(timeout=60)
  assert process.returncode == 1, said
  assert "RunError: cannot" in said
  assert "File too large. What is done is kept" in said
  done = len(results(out))
  summary = run_toy(config, out)
  assert (summary.num_done, summary.num_ran) == (24, 24 - done)
  run_toy(config, tmp_path / "straight")
  assert results(out) == results(tmp_path / "straight")


def test_a_sweep_is_rebuilt_from_its_runs_alone(
  write_config, run_toy, tmp_path
):
  config, out = write_config(TUNED), tmp_path / "out"
  run_toy(config, out)
  plan, found = (out / "plan.json").read_bytes(), results(out)
  lost = next(iter(found))
  for left, num_ran in ((set(), 0), ({lost}, 1)):
    (out / "plan.json").unlink()
    (out / directory.ATTEMPTS).unlink()
    shutil.rmtree(out / "leases")
    for run_id in left:
      shutil.rmtree(out / "runs" / run_id)
    summary = run_toy(config, out)
    assert (summary.num_done, summary.num_ran) == (24, num_ran)
    assert (out / "plan.json").read_bytes() == plan
    assert results(out) == found
