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


def test_runs_that_waited_for_data_are_said_once(make_sweep):
  out = make_sweep(trials=False)
  runs = sorted((out / "runs").iterdir())
  # Less than a second in all is not worth a word, whatever its share.
  edit(runs[0] / "result.json", data_wait_s=0.5, data_wait_share=0.5)
  assert "waited for data" not in printed(out)
  for run, share in zip(runs, (0.3, 0.06, 0.04), strict=False):
    edit(run / "result.json", data_wait_s=30.0, data_wait_share=share)
  said = printed(out)
  assert said.count("waited for data") == 1
  assert f"2 of {len(runs)} runs waited for data for more than 5% of" in said
  assert f"({runs[0].name}), for 30%: their times are not those of" in said


def test_forwards_are_shown_where_methods_differ_in_them(make_sweep):
  out = make_sweep(trials=False)
  runs = sorted((out / "runs").iterdir())
  for run in runs:
    edit(run / "result.json", forwards_per_step=3)
  assert "forwards/step" not in printed(out)
  methods = []
  for run in runs:
    config = json.loads((run / "run.json").read_text())["config"]
    methods.append((config["optimizer"]["name"], config["norm"]["name"]))
  for run, method in zip(runs, methods, strict=True):
    if method == methods[0]:
      edit(run / "result.json", forwards_per_step=2.25)
  report.write_report(out)
  table = (out / "report" / "table.md").read_text()
  assert "| steps | forwards/step | train s |" in table
  assert "| 2.25 |" in table
  assert "| 3 |" in table
  assert "equal steps are equal data and not equal compute" in table
  header = (out / "report" / "table.csv").read_text().splitlines()[0]
  assert "forwards_per_step" in header.split(",")


def test_speed_is_shown_where_devices_have_a_peak(make_sweep):
  out = make_sweep(trials=False)
  before = printed(out)
  assert "MFU" not in before
  speed = {"tokens_per_s": 1.1e6, "mfu": 0.402, "peak_device_bytes": 7_500_000}
  for run in (out / "runs").iterdir():
    edit(run / "result.json", **speed)
  report.write_report(out)
  table = (out / "report" / "table.md").read_text()
  assert "| tokens/s | MFU | peak memory | compile s |" in table
  assert "| 1,100,000 | 40.2% | 7.50 MB |" in table
  assert "3 times the products of a forward pass" in table
  lines = (out / "report" / "table.csv").read_text().splitlines()
  header = lines[0].split(",")
  for name in ("step_ms", "tokens_per_s", "mfu", "data_wait_share"):
    assert name in header
