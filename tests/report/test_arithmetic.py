"""What the runs computed with: in the report, at its head where rows differ."""

import json

from normjax import report
from normjax.report import arithmetic, load
from tests.report.conftest import NORMS


def record(out, *, of, **changes):
  """Changes the provenance of the runs of some methods."""
  plan = json.loads((out / "plan.json").read_text())
  for point in plan["points"]:
    if of in point["method"]:
      path = out / "runs" / point["run_id"] / "run.json"
      told = json.loads(path.read_text())
      told["provenance"] |= changes
      path.write_text(json.dumps(told))


def small(make_sweep):
  return make_sweep(trials=False, optimizers={"adamw": (0.0, 1e-3)})


def test_rows_alike_say_nothing_at_the_head(make_sweep):
  """A norm's own kernel is no difference: another row does not have it."""
  out = small(make_sweep)
  record(out, of="rms_norm", kernels={"rms_norm": ["xla"]})
  # A CPU has one precision, which records of earlier versions do not say.
  record(out, of="dyt", matmul_precision="float32")
  sweep = load.load(out)
  assert arithmetic.differences(sweep) == []
  names, rows = arithmetic.table(sweep)
  assert names == ["float32 products", "rms_norm"]
  assert dict(rows) == {
    "layer_norm+adamw": ["float32", "–"],
    "rms_norm+adamw": ["float32", "xla"],
    "dyt+adamw": ["float32", "–"],
  }
  html = report.write_report(out).html.read_text()
  assert "did not compute alike" not in html
  assert '<th scope="col">float32 products</th>' in html


def test_rows_that_differ_say_so_at_the_head(make_sweep):
  out = small(make_sweep)
  record(out, of="dyt", matmul_precision="tf32")
  record(out, of="dyt", kernels={"attention": ["cudnn"]})
  record(out, of="rms_norm", kernels={"attention": ["xla"]})
  precision, attention = arithmetic.differences(load.load(out))
  assert precision == (
    "Rows did not compute alike: float32 products: float32 (layer_norm+adamw,"
    " rms_norm+adamw); tf32 (dyt+adamw). A difference between them may come of"
    " it."
  )
  assert "attention: xla (rms_norm+adamw); cudnn (dyt+adamw)" in attention
  paths = report.write_report(out)
  html = paths.html.read_text()
  head = html[: html.index("</header>")]
  assert "float32 products: float32" in head
  assert "attention: xla" in head
  for path in (paths.markdown, paths.tex):
    assert "did not compute alike" in path.read_text()


def test_a_method_s_own_runs_may_differ(make_sweep):
  """As of a sweep that went on after a setting had changed."""
  out = small(make_sweep)
  record(out, of="adamw", devices=["NVIDIA H200"])
  run = next((out / "runs").iterdir()) / "run.json"
  told = json.loads(run.read_text())
  told["provenance"]["matmul_precision"] = "tf32"
  run.write_text(json.dumps(told))
  sweep = load.load(out)
  (said,) = arithmetic.differences(sweep)
  assert "not recorded (" in said
  assert "tf32 (" in said
  _, rows = arithmetic.table(sweep)
  assert sum(" or " in values[0] for _, values in rows) == 1
  assert len(rows) == len(NORMS)
