"""Slots that are jobs of a cluster: sent back, cancelled, left behind."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from toy_runner import logs

from normjax import cli, errors, stopping
from normjax.record import files, heartbeat, lease
from normjax.sweep import executor, protocol
from normjax.sweep.executor import (
  Began,
  Died,
  Failed,
  Finished,
  Interrupted,
  Lane,
  Note,
  Preempted,
  Ready,
)
from normjax.sweep.slurm import (
  cluster,
  job,
  launchers,
  options,
  pool,
  spool,
)

PATIENCE_S = 60.0


def attempts(out):
  """The ends of each run's attempts, in order, by the run's trouble."""
  rows = map(json.loads, (out / "attempts.jsonl").read_text().splitlines())
  ends = {}
  for row in rows:
    run = files.read_json(out / "runs" / row["run_id"] / files.RUN)
    trouble = run["config"]["toy"]["trouble"]
    ends.setdefault(trouble, []).append(row["state"])
  return ends


def wait_for(condition):
  deadline_s = time.monotonic() + PATIENCE_S
  while not condition():
    assert time.monotonic() < deadline_s
    time.sleep(0.05)


def no_job_is_left(fake_slurm):
  states = [path.read_text().strip() for path in fake_slurm.glob("*/state")]
  return not {"PENDING", "REQUEUED", "RUNNING"} & {*states}


def test_what_the_cluster_takes_back_goes_on(
  write_config, run_toy, fake_slurm, tmp_path
):
  """With `retries=0`: what is sent back is no failed attempt."""
  troubles = ["", "cluster:1", "scontrol requeue:1", "scancel:1"]
  sweep = f"""[{{"toy.name": "a" * (i + 1), "toy.trouble": t}}
    for i, t in enumerate({troubles})]"""
  out = tmp_path / "out"
  config = write_config(sweep, step_s=0.4)
  (fake_slurm / "requeue_s").write_text("0.7")  # The queue takes its time.
  summary = run_toy(config, out, executor="slurm", retries=0)
  assert attempts(out) == {
    "": ["done"],
    "cluster:1": ["interrupted", "done"],
    "scontrol requeue:1": ["interrupted", "done"],
    "scancel:1": ["failed"],  # Whoever cancels a job means it.
  }
  (failed,) = summary.failed.values()
  assert failed == "a signal interrupted the worker"
  # No step is taken twice but the one that was cut short.
  assert all(len([x for x in log if x.startswith("step")]) in (4, 5)
             for log in logs(out).values() if "interrupted" in log
             and log.count("begin") > 1)  # fmt: skip
  calls = (fake_slurm / "calls").read_text().splitlines()
  # A job that was requeued is no new one; where one was cancelled, one may be.
  assert sum(line.startswith("sbatch") for line in calls) in (2, 3)
  wait_for(lambda: no_job_is_left(fake_slurm))


def test_jobs_of_a_launcher_that_was_killed_are_cancelled_first(
  write_config, run_toy, start_toy, fake_slurm, tmp_path, caplog
):
  out = tmp_path / "out"
  config = write_config("grid(seed=range(2))", step_s=1.0)
  process = start_toy(config, out, executor="slurm")
  wait_for(lambda: sum("step 1" in log for log in logs(out).values()) == 2)
  process.kill()
  process.wait(PATIENCE_S)
  summary = run_toy(config, out, executor="slurm")
  assert "cancelling job(s) 1, 2 of a launcher that is gone" in caplog.text
  assert (summary.num_done, summary.num_ran) == (2, 2)
  # The old jobs wrote checkpoints, and nothing after the new one began.
  for log in logs(out).values():
    assert log.count("begin") == 2
    assert log[log.index("interrupted") + 1] == "begin"
    assert len([x for x in log if x.startswith("step")]) == 4
  assert not list((out / "slurm").glob(f"*/{launchers.OWNER}"))


# ----- The pool alone: SLURM's words and a job's files, as the test has them.


class Cluster:
  """Answers for SLURM, and writes what a job would write."""

  def __init__(self, monkeypatch, tmp_path, stack):
    self.states = {}
    self.spools = []
    self.cancelled = []
    monkeypatch.setattr(cluster, "check", lambda: None)
    monkeypatch.setattr(cluster, "submit", self._submit)
    monkeypatch.setattr(cluster, "states", lambda names: self.states)
    monkeypatch.setattr(cluster, "cancel", self.cancelled.extend)
    monkeypatch.setattr(pool.SlurmPool, "poll_s", 0.0)
    monkeypatch.setattr(pool.SlurmPool, "ask_s", 0.0)
    self.out = tmp_path / "out"
    self.out.mkdir()
    descriptor = stack.enter_context(lease.Leases(self.out)).descriptor
    self.pool = pool.SlurmPool(
      out=self.out, runner="a:b", num_slots=1, lock=descriptor
    )  # fmt: skip

  def _submit(self, job, folder, name, options):
    self.spools.append(spool.Spool(folder))
    self.set("RUNNING")
    return str(len(self.spools))

  def set(self, word, reason="None"):
    self.states = {str(len(self.spools)): cluster.State(word, reason)}

  def say(self, *said, start=0):
    for each in said:
      line = protocol.write_answer(each)
      self.spools[-1].tell(start=start, said=line)

  def events(self):
    said = [*self.pool.events(0.0), *self.pool.events(0.0)]
    return [each for each in said if not isinstance(each, Note)]

  def notes(self):
    said = [*self.pool.events(0.0), *self.pool.events(0.0)]
    return [each.text for each in said if isinstance(each, Note)]

  def begin(self):
    """A slot whose job has begun one of two runs."""
    self.pool.start(0)
    self.run()

  def run(self, start=0):
    self.say(Ready(0), start=start)
    assert self.events() == [Ready(0)]
    self.pool.submit(0, [Lane(r, {}, self.out / "runs" / r) for r in "xy"])
    self.say(Began(0, "x"), start=start)
    assert self.events() == [Began(0, "x")]


@pytest.fixture
def jobs(monkeypatch, tmp_path):
  with contextlib.ExitStack() as stack:
    yield Cluster(monkeypatch, tmp_path, stack)


SENT_BACK = [
  Preempted(0, "x"), Preempted(0, "y"), Died(0, "SLURM took job 1 back")
]  # fmt: skip


def test_a_job_that_is_back_in_the_queue(jobs):
  jobs.begin()
  jobs.say(Interrupted(0, "x"), Interrupted(0, "y"))
  jobs.spools[0].tell(start=0, left=signal.SIGTERM.name)
  jobs.set("COMPLETING")
  assert jobs.events() == []  # Only SLURM knows what becomes of it.
  jobs.set("PENDING", "BeginTime")
  assert jobs.events() == SENT_BACK
  jobs.pool.start(0)
  assert len(jobs.spools) == 1  # No second job.
  jobs.set("RUNNING")
  jobs.say(Ready(0), start=jobs.spools[0].read_word().number)
  assert jobs.events() == [Ready(0)]


def test_a_job_that_began_anew_without_a_word(jobs):
  """Its node was lost, in the middle of a line."""
  jobs.begin()
  with (jobs.spools[0].folder / spool.ANSWERS).open("a") as file:
    file.write('{"start": 0, "sa')
  jobs.spools[0].begin()
  # It has read the request that was for the job as it was.
  jobs.say(Ready(0), Began(0, "y"))
  assert jobs.events() == SENT_BACK
  assert jobs.events() == []
  jobs.pool.start(0)
  assert jobs.events() == []  # What that worker said does not count.
  jobs.run(start=jobs.spools[0].read_word().number)


def test_a_job_that_was_cancelled(jobs):
  jobs.begin()
  jobs.say(Interrupted(0, "x"), Interrupted(0, "y"))
  jobs.spools[0].tell(start=0, left=signal.SIGTERM.name)
  jobs.set("CANCELLED")
  assert jobs.events() == [
    Interrupted(0, "x"),
    Interrupted(0, "y"),
    Died(0, "job 1 of SLURM ended: CANCELLED"),
  ]
  jobs.pool.start(0)
  assert len(jobs.spools) == 2


@pytest.mark.parametrize(
  ("left", "state"),
  [
    ("SIGUSR2", None),  # SLURM has forgotten it by now.
    ("SIGUSR2", "FAILED"),  # scontrol requeue is forbidden.
    ("SIGTERM", "COMPLETED"),  # Room was needed.
    ("", "TIMEOUT"),
    ("", "NODE_FAIL"),
  ],
)
def test_a_cluster_that_requeues_nothing(jobs, left, state):
  """The time was up: no fault of the runs, and a new job for them."""
  jobs.begin()
  if left:
    jobs.spools[0].tell(start=0, left=left)
  jobs.set(state or "RUNNING")
  if state is None:
    jobs.states = {}
  assert jobs.events() == SENT_BACK
  jobs.pool.start(0)
  assert len(jobs.spools) == 2


def test_a_job_out_of_memory_says_so(jobs):
  jobs.begin()
  (jobs.spools[0].folder / "1_0_log.err").write_text("oom-kill\n")
  jobs.set("OUT_OF_MEMORY", "OutOfMemory")
  (died,) = jobs.events()
  assert died.message.startswith(
    "job 1 of SLURM ended: OUT_OF_MEMORY (OutOfMemory); the end of"
  )
  assert died.message.endswith("1_0_log.err: oom-kill")


def test_a_worker_that_died_costs_no_new_job(jobs):
  jobs.begin()
  jobs.say(Finished(0, "x", 1.0))
  jobs.spools[0].tell(start=0, died="killed")
  assert jobs.events() == [Finished(0, "x", 1.0), Died(0, "killed")]
  jobs.pool.start(0)
  assert jobs.spools[0].read_word().what == spool.What.START
  jobs.run(start=jobs.spools[0].read_word().number)
  assert len(jobs.spools) == 1


def test_nothing_is_told_of_a_slot_after_its_end(jobs):
  """Its worker died just before the job was sent back."""
  jobs.begin()
  jobs.spools[0].tell(start=0, died="killed")
  jobs.set("PENDING", "BeginTime")
  assert jobs.events() == [Died(0, "killed")]


def test_a_slot_that_is_ended_tells_nothing(jobs):
  jobs.begin()
  jobs.pool.end(0)
  assert jobs.spools[0].read_word().what == spool.What.END
  jobs.say(Failed(0, "x", "late", executor.Cause.ERROR))
  assert jobs.events() == []
  jobs.pool.start(0)
  assert jobs.events() == []


def test_a_run_that_gets_no_further_fails(jobs):
  """However often it is sent back as long as it does."""
  jobs.begin()
  said = []
  for step in (0, 0, 2, 2, 2):
    directory = jobs.out / "runs" / "x"
    files.write_json(
      directory / files.STATUS, {"state": "running", "step": step}
    )
    jobs.set("PENDING", "BeginTime")
    said.append(jobs.events()[0])
    jobs.set("RUNNING")
    jobs.pool.start(0)
    jobs.run(start=jobs.spools[0].read_word().number)
  assert said[:4] == [Preempted(0, "x")] * 4
  assert "sent back by SLURM 3 times without getting any further" in (
    said[4].message
  )


def test_what_a_job_waits_for_is_told_once(jobs):
  jobs.pool.start(0)
  jobs.set("PENDING", "QOSMaxJobsPerUserLimit")
  assert jobs.notes() == [
    f"slot 0 is job 1 of SLURM: {jobs.spools[0].folder}",
    "job 1 waits: QOSMaxJobsPerUserLimit",
  ]
  assert jobs.notes() == []


def test_a_job_that_waited_for_long_makes_room(jobs, monkeypatch):
  """Also where it is given runs at that very moment."""
  monkeypatch.setattr(job, "IDLE_S", -1.0)
  jobs.pool.start(0)
  session = job.Session(jobs.spools[0], Silent(), heard=[], grace_s=1.0)
  assert session.serve() == job.IDLE
  jobs.run()
  jobs.set("COMPLETED")
  assert jobs.events() == SENT_BACK
  jobs.pool.start(0)
  assert len(jobs.spools) == 2


class Silent:
  """A pool of a job whose worker says nothing; `then` is done in turn."""

  def __init__(self, *then):
    self._then = list(then)
    self.given = []

  def start(self, slot):
    self.given.append("start")

  def submit(self, slot, lanes):
    self.given += [lane.run_id for lane in lanes]

  def events(self, timeout_s):
    if self._then:
      self._then.pop(0)()
    return []

  def stop(self, grace_s):
    self.given.append(f"stop {grace_s:g}")
    return []


def test_a_worker_that_hears_nothing_holds_no_job(jobs):
  """As deep in a compilation: it is ended in time, and its runs go on."""
  jobs.pool.start(0)
  heard = []
  silent = Silent(
    lambda: jobs.pool.submit(0, [Lane("x", {}, jobs.out / "runs" / "x")]),
    lambda: heard.append(stopping.CLUSTER),
  )
  session = job.Session(jobs.spools[0], silent, heard, grace_s=75.0)
  assert session.serve() == "SIGUSR2"
  assert silent.given == ["start", "x", "stop 75"]
  rows = [row for row, _ in jobs.spools[0].answers(0)]
  assert rows[-1] == {"start": 0, "left": "SIGUSR2"}
  assert protocol.read_answer(rows[-2]["said"], 0) == Interrupted(0, "x")


def test_a_requeued_job_counts_from_the_word_that_it_finds(jobs):
  """Else its worker would be taken for an earlier one."""
  jobs.begin()
  jobs.set("PENDING", "BeginTime")
  assert jobs.events() == SENT_BACK
  jobs.pool.start(0)
  jobs.set("RUNNING")
  leave = spool.Word(99, spool.What.LEAVE)
  silent = Silent(lambda: jobs.say(Ready(0), start=session._start),
                  lambda: jobs.spools[0].write_word(leave))  # fmt: skip
  session = job.Session(jobs.spools[0], silent, [], grace_s=1.0)
  session.serve()
  assert silent.given == ["start", "stop 0"]  # It obeys no old word.
  assert jobs.events() == [Ready(0)]


def test_slurm_may_be_silent(jobs):
  jobs.begin()
  jobs.states = None
  assert jobs.notes() == ["squeue fails; going on by what the jobs say"]
  jobs.say(Finished(0, "x", 1.0))
  assert jobs.events() == [Finished(0, "x", 1.0)]
  assert jobs.notes() == []


def test_the_end_of_the_sweep_cancels_what_waits(jobs):
  jobs.pool.start(0)
  assert jobs.pool.stop(grace_s=60.0) == []
  assert jobs.cancelled == ["1"]


# ----- What is asked for, and refused.


@pytest.mark.parametrize(
  ("text", "minutes"),
  [("90", 90), ("1:30", 2), ("2:00:00", 120), ("1-2", 1560),
   ("1-2:30", 1590), ("0-0:0:30", 1)],
)  # fmt: skip
def test_times_as_sbatch_has_them(text, minutes):
  assert options.Options(time=text, signal_delay_s=10).time_min == minutes


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (["--slurm.mem=1G"], "--slurm.mem is for --launcher=slurm"),
    (["--launcher=slrm"], "should be one of <local|slurm>"),
    (["--launcher=slurm", "--slurm.time=1h"], "slurm.time=1h: needs a time"),
    (["--launcher=slurm", "--slurm.time=1"], "below the 60 s of slurm.time=1"),
  ],
)
def test_bad_options_are_one_line(capsys, tmp_path, fake_slurm, given, said):
  file = "configs/sweeps/quickstart.py"
  assert cli.main(["sweep", file, f"--out={tmp_path / 'out'}", *given]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line
  assert not (tmp_path / "out").exists()


def test_no_slurm_here_is_one_line(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv("PATH", str(tmp_path))
  given = [f"--out={tmp_path / 'out'}", "--launcher=slurm"]
  assert cli.main(["sweep", "configs/sweeps/quickstart.py", *given]) == 2
  said = "launcher slurm: no sbatch, srun, squeue, scancel, scontrol on the"
  assert said in capsys.readouterr().err


def test_submitit_that_is_missing_is_one_line(fake_slurm, monkeypatch):
  monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(errors.UserError, match=r"pip install 'normjax\[slurm\]'"):
    cluster.check()


def test_what_sbatch_refuses_is_one_line(
  write_config, run_toy, fake_slurm, tmp_path
):
  (fake_slurm / "refusal").write_text(
    "sbatch: error: invalid partition specified: nope\n"
    "sbatch: error: Batch job submission failed: Invalid partition\n"
  )
  with pytest.raises(
    errors.RunError,
    match="start: sbatch refuses the job: .* nope | .* is done is kept",
  ):
    run_toy(write_config("grid(seed=[0])"), tmp_path / "out", executor="slurm")


def test_what_was_asked_for_wins_over_the_environment(
  fake_slurm, tmp_path, monkeypatch
):
  for name in ("PARTITION", "QOS", "NO_REQUEUE", "TIMELIMIT"):
    monkeypatch.setenv(f"SBATCH_{name}", "theirs")
  asked = options.Options(partition="ours")
  with cluster._own_environment(asked):
    said = subprocess.check_output(["env"], text=True)
  assert "SBATCH_QOS=theirs" in said
  assert said.count("SBATCH_") == 1
  assert cluster.os.environ["SBATCH_PARTITION"] == "theirs"


def test_a_dry_run_prints_the_script(fake_slurm, tmp_path):
  asked = options.Options(partition="p", mem="2G", gpus_per_node="a100:1",
                          cpus_per_task=3, time="2:0:0")  # fmt: skip
  text = pool.with_options(asked).script(tmp_path / "out")
  lines = "partition=p mem=2G gpus-per-node=a100:1 cpus-per-task=3 time=120"
  for line in (*lines.split(), "signal=USR2@90", "requeue"):
    assert f"\n#SBATCH --{line}\n" in text
  # srun does not take over what sbatch was asked for.
  assert " --cpus-per-task=3 " in text.partition("\nsrun ")[2]
  assert not (tmp_path / "out").exists()


def test_a_folder_that_slurm_would_not_find():
  with pytest.raises(errors.UserError, match=r"--out=runs/5%: SLURM gives a %"):
    pool.SlurmPool.script(Path("runs/5%"))


def test_a_launcher_of_another_machine_is_given_time(monkeypatch, tmp_path):
  """Its signs of life tell whether it works, whatever its clock says."""
  monkeypatch.setattr(heartbeat, "_boot_id", lambda: "here")
  signs = {}
  for name in ("dead", "works"):
    launcher = heartbeat.Launcher(name, "elsewhere", "there", 1, 0.0)
    owner = tmp_path / "slurm" / name / launchers.OWNER
    files.write_json(owner, dataclasses.asdict(launcher))
    signs[name] = tmp_path / "leases" / f"{name}{heartbeat.SUFFIX}"
    files.write_text(signs[name], "1")
  now_s = [0.0]

  def sleep(seconds):
    now_s[0] += seconds
    files.write_text(signs["works"], str(now_s))

  monkeypatch.setattr(launchers.time, "sleep", sleep)
  monkeypatch.setattr(launchers.time, "monotonic", lambda: now_s[0])
  monkeypatch.setattr(
    launchers.holders,
    "observe",
    lambda out: heartbeat.Observer(out / "leases", clock=lambda: now_s[0]),
  )
  assert launchers._gone(tmp_path) == [tmp_path / "slurm" / "dead"]


def test_jobs_of_a_launcher_that_works_here_are_left_alone(tmp_path):
  owner = tmp_path / "slurm" / "other" / launchers.OWNER
  with lease.Leases(tmp_path) as leases:
    files.write_json(owner, dataclasses.asdict(leases.launcher))
    assert launchers._gone(tmp_path) == []
  assert launchers._gone(tmp_path) == [owner.parent]
