"""Peaks, a model's own operations, memory and traces."""

import types

import jax
import jax.numpy as jnp
import pytest

from normjax import configure, errors, train
from normjax.record import memory
from normjax.record.directory import RunDirectory
from normjax.train.throughput import model_flops, peaks, profile


def _devices(*kinds):
  return [types.SimpleNamespace(device_kind=kind) for kind in kinds]


def test_peaks_are_of_all_devices_or_not_known():
  h100 = "NVIDIA H100 80GB HBM3"
  assert peaks.flops_per_s(_devices(h100), "bfloat16") == 989.4e12
  assert peaks.flops_per_s(_devices(h100, h100), "tf32") == 2 * 494.7e12
  assert peaks.flops_per_s(_devices(h100, "NVIDIA X1"), "tf32") is None
  assert peaks.flops_per_s(_devices("TPU v5 lite"), "bfloat16") == 197e12
  assert peaks.flops_per_s(_devices("TPU v5 lite"), "float32") is None
  assert peaks.flops_per_s(_devices("cpu"), "float32") is None
  assert peaks.flops_per_s([], "float32") is None


def test_what_a_model_computes_in_is_what_its_peak_is_of():
  config = configure.load("configs/default.py")
  assert peaks.arithmetic(config) == "float32"
  half = configure.override(config, {"train.precision": "bfloat16"})
  assert peaks.arithmetic(half) == "bfloat16"


def test_products_count_twice_their_multiplications_and_loops_all_turns():
  def f(x, w, images, kernel):
    def turn(x, _):
      return jax.checkpoint(lambda x: jnp.tanh(x @ w))(x), None

    y, _ = jax.lax.scan(turn, x, length=3)
    z = jax.lax.conv_general_dilated(
      images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y.sum() + z.sum()

  shapes = (5, 8), (8, 8), (2, 6, 6, 3), (3, 3, 3, 7)
  args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  found = model_flops.products(jax.make_jaxpr(f)(*args).jaxpr)
  assert found == 3 * 2 * 5 * 8 * 8 + 2 * (2 * 3 * 3 * 7) * (3 * 3 * 3)

  def endless(x, w):
    return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ w, x)

  with pytest.raises(model_flops.UnknownError):
    model_flops.products(jax.make_jaxpr(endless)(*args[:2]).jaxpr)


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_a_decoder_takes_what_the_formula_of_palm_says(layers):
  """6 per weight of a matrix and token, and 12 L d T^2 per sequence."""
  sizes = {"num_layers": 3, "model_dim": 32, "hidden_dim": 48, "num_heads": 2}
  options = {f"model.{key}": value for key, value in sizes.items()}
  base = configure.load("configs/default.py")
  options |= {"train.batch_size": 4, "data.sequence_length": 16}
  if layers == "scanned":
    options["model.scan_layers"] = True
  config = configure.override(base, options)
  d, t, tokens = 32, 16, 4 * 16
  weights = 3 * (4 * d * d + 3 * d * 48) + d * 256
  expected = 6 * weights * tokens + 12 * 3 * d * t * tokens
  assert model_flops.per_step(config) == expected


def test_a_cpu_says_what_was_resident():
  found = memory.peak()
  assert found.keys() == {"peak_rss_bytes"}
  assert found["peak_rss_bytes"] > 50e6


class Device:
  def __init__(self, stats):
    self.stats = stats

  def memory_stats(self):
    return self.stats


def test_devices_that_count_say_their_peak(monkeypatch):
  devices = [Device({"peak_bytes_in_use": n}) for n in (3, 7)]
  monkeypatch.setattr(jax, "local_devices", lambda: [*devices, Device(None)])
  assert memory.peak() == {"peak_device_bytes": 7}


@pytest.mark.parametrize(
  "text", ["", "5", "5:", "5:5", "6:5", "-1:4", "0:21", "1:2:3", "a:b", "٣:٤"]
)
def test_windows_that_are_none_are_refused(text):
  with pytest.raises(
    errors.UserError, match="allowed: FIRST:STOP with FIRST <"
  ):
    profile.parse(text, 20)


@pytest.mark.parametrize(
  ("steps", "expected"),
  [
    (range(8), ["wait", "start", 3, 4, "wait", "stop"]),
    (range(4, 8), ["wait", "start", 4, "wait", "stop"]),
    (range(4), ["wait", "start", 3, "stop"]),
    (range(5, 8), []),
  ],
)
def test_the_steps_of_a_window_are_traced_whole(
  tmp_path, monkeypatch, steps, expected
):
  events = []
  for name in ("start", "stop"):
    monkeypatch.setattr(
      jax.profiler,
      f"{name}_trace",
      lambda *given, name=name: events.append(name) or given,
    )
  traced = profile.Profile(profile.Window(3, 5), tmp_path)
  for step in steps:
    with traced.step(step, lambda: events.append("wait")):
      if 3 <= step < 5:
        events.append(step)
  traced.close()
  assert events == expected


def test_a_trace_that_cannot_be_written_is_the_disk_s_fault(tmp_path):
  (tmp_path / profile.FOLDER).write_text("no folder")
  traced = profile.Profile(profile.Window(0, 1), tmp_path)
  with pytest.raises(FileExistsError), traced.step(0, lambda: None):
    pass


@pytest.mark.slow
def test_a_window_is_traced_and_what_is_over_is_not(tmp_path, monkeypatch):
  # As if the vendor of this CPU said what it can.
  kind = jax.devices()[0].device_kind
  monkeypatch.setitem(peaks.PEAKS, kind, {"float32": 1e12})
  config = configure.override(
    configure.load("configs/default.py:debug"),
    {
      "model.num_layers": 1, "model.model_dim": 16, "model.hidden_dim": 16,
      "train.num_steps": 4, "train.batch_size": 4, "checkpoint.every_steps": 2,
      "data.sequence_length": 8, "evaluate.num_batches": 1,
      "train.num_devices": 1, "log.every_steps": 1,
    },
  )  # fmt: skip
  window = profile.parse("1:3", 4)
  result = train.run(config, tmp_path, window=window)
  (trace,) = (tmp_path / profile.FOLDER).rglob("*.xplane.pb")
  assert trace.stat().st_size > 1000
  assert result["data_wait_s"] >= 0
  assert 0 <= result["data_wait_share"] <= 1
  assert result["model_flops_per_step"] == model_flops.per_step(config)
  assert result["mfu"] == pytest.approx(
    result["model_flops_per_step"] / (1e-3 * result["step_ms_median"]) / 1e12
  )
  run_id = configure.run_id(config)
  problems = RunDirectory(tmp_path, run_id).read_run().value["problems"]
  assert problems == [
    "--profile=1:3: steps 1 to 2 were traced, which slows them"
  ]
  again = profile.Profile(window, tmp_path)
  assert again.note(2) == [
    "--profile=1:3: steps 2 to 2 were traced, which slows them"
  ]
  assert again.note(3) == [
    "--profile=1:3: nothing is traced, the run goes on at step 3"
  ]
