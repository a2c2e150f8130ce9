"""What a reader must be told: on the terminal too, and no false number."""

import io
import json

import rich.console

from normjax import report
from normjax.report import load, stats


def edit(path, **changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def printed(out):
  console = rich.console.Console(file=io.StringIO(), width=500)
  report.print_table(out, console)
  return console.file.getvalue()


def test_the_terminal_shows_the_report_s_warnings(make_sweep):
  out = make_sweep(trials=False)
  assert "warning" not in printed(out)
  run = sorted((out / "runs").iterdir())[0]
  problem = "checkpoint 8 has a damaged seal; it was moved to ckpt-unreadable-8"
  edit(run / "run.json", problems=[problem])
  with (run / "metrics.jsonl").open("a") as file:
    file.write('{"step": 9, "ki')
  said = printed(out)
  assert f"({run.name}): {problem}\n" in said
  assert "is not a metric row; dropped" in said
  html = report.write_report(out).html.read_text()
  assert problem in html


def test_what_several_runs_note_is_said_once(make_sweep):
  out = make_sweep(trials=False)
  runs = sorted((out / "runs").iterdir())
  for run in runs:
    edit(run / "run.json", problems=["the premise does not hold"])
  said = printed(out)
  assert said.count("the premise does not hold") == 1
  assert f"{len(runs)} runs: the premise does not hold; first: " in said


def test_compile_time_is_that_of_whichever_run_compiled(make_sweep):
  """A trial compiles, the final runs find the program in their process."""
  out = make_sweep(
    norms={"rms_norm": 0.0, "dyt": 0.0}, optimizers={"adamw": (0.0, 1e-3)}
  )
  plan = json.loads((out / "plan.json").read_text())
  for index, point in enumerate(plan["points"]):
    run = out / "runs" / point["run_id"]
    compiles = point["stage"] == "tune" and index == 0
    edit(run / "result.json", compile_s=4.25 if compiles else 0.0)
    edit(run / "run.json", program=point["method"])
  sweep = load.load(out)
  times = {row.label: row.compile_s for row in stats.summarize(sweep)}
  # No run of dyt says what its program took: that is no 0.
  assert times == {"rms_norm+adamw": 4.25, "dyt+adamw": None}
