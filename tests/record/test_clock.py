from normjax.record import clock as clock_module


def test_seconds_add_up_over_processes(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(clock_module.time, "perf_counter", lambda: now[0])
  clock = clock_module.Clock({"train": 5.0})
  with clock.measure("train"):
    now[0] += 2.0
    assert clock["train"] == 7.0
    assert clock["eval"] == 0.0
    now[0] += 1.0
  clock.add("compile", 4.0)
  now[0] += 50.0
  assert clock.data_wait_share == 0.0
  clock.add("data_wait", 2.0)
  assert clock.data_wait_share == 0.25
  assert clock_module.Clock().data_wait_share is None
  assert clock.to_dict() == {
    "train": 8.0,
    "eval": 0.0,
    "compile": 4.0,
    "data_wait": 2.0,
  }


def test_rates_are_what_a_step_goes_through_per_second():
  work = {"examples_per_step": 8, "tokens_per_step": None, "flops_per_step": 3}
  assert clock_module.rates(work, 0.5) == {
    "examples_per_s": 16.0,
    "flops_per_s": 6.0,
  }
  work |= {"model_flops_per_step": 2, "peak_flops_per_s": 16.0}
  assert clock_module.rates(work, 0.5)["mfu"] == 0.25
  work["peak_flops_per_s"] = None
  assert "mfu" not in clock_module.rates(work, 0.5)
  assert clock_module.rates(work, None) == clock_module.rates(work, 0.0) == {}
