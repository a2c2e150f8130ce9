"""Which GPUs workers see: a driver that is a script, and no jax."""

import pytest

from normjax import errors
from normjax.sweep import devices, local, machine

TWO = """GPU 0: NVIDIA H200 (UUID: GPU-aa)
GPU 1: NVIDIA H200 (UUID: GPU-bb)
"""
SLICED = """GPU 0: NVIDIA H200 (UUID: GPU-aa)
  MIG 3g.71gb     Device  0: (UUID: MIG-a0)
  MIG 3g.71gb     Device  1: (UUID: MIG-a1)
GPU 1: NVIDIA H200 (UUID: GPU-bb)
"""


def test_the_driver_s_list_is_shared_out(smi):
  assert devices.visible_gpus() == []
  smi(TWO)
  assert devices.visible_gpus() == ["GPU-aa", "GPU-bb"]
  smi(SLICED)  # Of a GPU with slices none but these can be used.
  assert devices.visible_gpus() == ["MIG-a0", "MIG-a1", "GPU-bb"]


def test_without_its_tool_the_driver_s_folder_counts(smi, tmp_path):
  smi(TWO, status=9)
  assert devices.visible_gpus() == []
  for name in ("0000:01:00.0", "0000:02:00.0"):
    (tmp_path / "driver" / name).mkdir(parents=True)
  assert devices.visible_gpus() == ["0", "1"]


@pytest.mark.parametrize(
  ("said", "gpus"),
  [
    ("3,1", ["3", "1"]),
    ("GPU-bb, GPU-aa", ["GPU-bb", "GPU-aa"]),
    ("MIG-a1", ["MIG-a1"]),
    ("", []),
    ("0,-1,1", ["0"]),  # As CUDA reads it.
    ("NoDevFiles", []),
    ("1,1", ["1"]),
  ],
)
def test_what_the_user_shows_is_what_there_is(smi, monkeypatch, said, gpus):
  smi(TWO)
  monkeypatch.setenv(devices.VISIBLE, said)
  assert devices.visible_gpus() == gpus
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert devices.visible_gpus() == []


def test_a_name_alone_is_no_gpu(smi, monkeypatch):
  monkeypatch.setenv(devices.VISIBLE, "0,1")
  assert devices.visible_gpus() == []
  smi(TWO)
  assert devices.visible_gpus() == ["0", "1"]


def test_a_gpu_has_one_name(smi):
  """Else two launchers that name it otherwise would both have it."""
  assert devices.canonical(["1", "GPU-bb"]) == ["1", "GPU-bb"]  # No driver.
  smi(TWO)
  assert devices.canonical(["1", "GPU-b", "GPU-aa", "7"]) == [
    "GPU-bb",
    "GPU-bb",
    "GPU-aa",
    "7",
  ]
  assert devices.canonical(["GPU-"]) == ["GPU-"]  # Of two.
  smi(SLICED)
  assert devices.canonical(["0", "1", "MIG-a1"]) == [
    "MIG-a0",
    "GPU-bb",
    "MIG-a1",
  ]


def test_each_worker_sees_its_own(monkeypatch):
  for name in devices._FRACTIONS:
    monkeypatch.delenv(name, raising=False)
  share = devices.Share(("0", "1", "2", "3", "4"))
  assert share.most_workers == 5
  assert share.environment(3) == {devices.VISIBLE: "3"}
  pairs = devices.Share(("0", "1", "2", "3", "4"), gpus_per_worker=2)
  assert pairs.most_workers == 2
  assert [pairs.environment(i)[devices.VISIBLE] for i in (0, 1)] == [
    "0,1",
    "2,3",
  ]
  shared = devices.Share(("0", "1"), workers_per_gpu=3)
  assert shared.most_workers == 6
  # The first workers have a GPU each, so that three of six use two.
  assert [shared.environment(i)[devices.VISIBLE] for i in range(6)] == [
    *"010101"
  ]
  assert shared.environment(0)[devices.FRACTION] == "0.30"
  monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.2")  # The user's word.
  assert devices.FRACTION not in shared.environment(0)
  assert devices.Share().environment(0) == {}


@pytest.mark.parametrize(
  ("share", "workers", "said"),
  [
    (
      devices.Share(("GPU-aa", "GPU-bb")),
      3,
      r"--workers=3: each has one GPU, and this process sees 2 \(GPU-aa, GPU-bb"
      r"\): allowed are 1 to 2, or --workers_per_gpu=2",
    ),
    (
      devices.Share(tuple("01234"), 2),
      3,
      r"each has 2 GPUs, .* sees 5 \(0, 1, 2, 3 and 1 more\): .* 1 to 2, or"
      " --workers_per_gpu=2",
    ),
    (devices.Share(("0",), 2), None, "asks for 2 GPUs; this process sees 1 "),
    (devices.Share(("MIG-a", "MIG-b"), 2), None, "can use one MIG slice"),
    (devices.Share((), 1, 2), None, "=2: no NVIDIA GPU is visible"),
  ],
)
def test_more_than_there_are_is_refused(share, workers, said):
  with pytest.raises(errors.UserError, match=said):
    share.check(workers)


def test_a_config_says_how_many_a_worker_needs():
  assert devices.num_devices({}) == 1
  assert devices.num_devices({"train": {"num_devices": 0}}) == 1
  assert devices.num_devices({"train": {"num_devices": 4}}) == 4
  layout = {"data": 0, "fsdp": 4, "tensor": 2}
  config = {"train": {"num_devices": 0, "layout": layout}}
  assert devices.num_devices(config) == 8


SWEEP = "grid(seed=range(4))"


def test_workers_get_what_they_see(
  smi, write_config, run_toy, tmp_path, monkeypatch
):
  smi(TWO)
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / "seeing_runner.py").write_text(
    "import os, toy_runner\n"
    "def run(config, directory):\n"
    "  result = toy_runner.run(config, directory)\n"
    "  (directory / 'sees').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    "  return result\n"
  )
  config = write_config(SWEEP, step_s=0.05)
  out = tmp_path / "out"
  run_toy(
    config, out, runner="seeing_runner:run", workers=None, executor="local"
  )
  seen = {path.read_text() for path in out.glob("runs/*/sees")}
  assert seen == {"GPU-aa", "GPU-bb"}


def test_more_workers_than_gpus_write_nothing(
  smi, write_config, run_toy, tmp_path
):
  smi(TWO)
  config, out = write_config(SWEEP), tmp_path / "out"
  for options, said in (
    ({"workers": 3, "executor": "local"}, "--workers=3: each has one GPU"),
    ({"workers_per_gpu": 2}, "is for workers of this machine"),
  ):
    with pytest.raises(errors.UserError, match=said):
      run_toy(config, out, **options)
  assert not out.exists()


def test_another_accelerator_is_left_alone(monkeypatch):
  monkeypatch.setattr(machine, "has_accelerator", lambda: True)
  assert local.shares_unasked(local.LocalPool)
  share = devices.Share(("0", "1"))
  assert not local.shares_unasked(local.sharing(share))
  assert local.sharing(share).default_num_slots() == 2
  assert local.LocalPool.default_num_slots() == 1


def test_a_log_is_one_worker_s(tmp_path):
  first, file = local._open_log(tmp_path, 0)
  second, other = local._open_log(tmp_path, 0)
  assert (first.name, second.name) == ("worker-0.log", "worker-0.2.log")
  file.close()
  again, file = local._open_log(tmp_path, 0)
  assert again == first
  file.close()
  other.close()
