"""Directories of sweeps that never ran, written by the files' schema."""

import hashlib
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from normjax.report import redraw

SETTINGS = (3e-4, 1e-3, 3e-3, 1e-2)
STEPS = 300


def noise(*key) -> float:
  """A fixed number in [-1, 1) for a key: no generator, no state."""
  word = hashlib.sha256(repr(key).encode()).digest()[:4]
  return int.from_bytes(word) / 2**31 - 1


def write_json(path: Path, value) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def provenance(**changes) -> dict:
  return {
    "normjax": "0.1.0",
    "git": {"commit": "0123abcd" * 5, "dirty": False, "diff": ""},
    "packages": {"jax": "0.11.2", "flax": "0.12.12"},
    "python": "3.12.11",
    "platform": "Linux-6.1-x86_64",
    "devices": ["cpu"],
    "kernels": {},
    "data": {"sha256": "5f3a"},
    "created": "2026-01-02T03:04:05+00:00",
    **changes,
  }


def write_run(
  directory: Path,
  config: dict,
  loss: float,
  *,
  diverged_at_step: int | None = None,
  state: str | None = None,
  steps: int = STEPS,
  **changes,
) -> None:
  """A run that went smoothly from 5.5 to `loss`, or as far as `steps`."""
  run_id = directory.name
  sizes = {"num_params": 421_632, "optimizer_state_bytes": 3_373_060}
  write_json(
    directory / "run.json",
    {
      "schema": 1, "run_id": run_id, "config": config, "program": "p",
      **sizes, "provenance": provenance(**changes),
    },
  )  # fmt: skip
  last = diverged_at_step or steps
  rows = []
  for step in range(10, last + 1, 10):
    value = loss + (5.5 - loss) * math.exp(-step / 40)
    if diverged_at_step and step > diverged_at_step - 30:
      value = 4.0 + step / 20
    wiggle = 0.03 * noise(run_id, step)
    base = {"step": step, "time_s": 0.01 * step}
    rows.append(
      {**base, "kind": "train", "loss": value + wiggle, "grad_norm": 1.0}
    )
    if step % 50 == 0:
      rows.append({**base, "kind": "eval", "loss": value, "accuracy": 0.5})
  (directory / "metrics.jsonl").write_text(
    "".join(json.dumps(row) + "\n" for row in rows)
  )
  over = state is None
  end = "diverged" if diverged_at_step else "done"
  write_json(
    directory / "status.json",
    {
      "state": state or end, "step": last, "num_steps": STEPS, "loss": loss,
      "eta_s": 0.0, "updated_s": 1.0,
      "message": "no space left on device" if state == "failed" else "",
    },
  )  # fmt: skip
  if not over:
    return
  write_json(
    directory / "result.json",
    {
      "schema": 1, "run_id": run_id, "state": end, "steps": last,
      "diverged_at_step": diverged_at_step,
      "metrics": {
        "eval/loss": None if diverged_at_step else loss,
        "eval/accuracy": 1 - loss / 6, "train/loss": loss + 0.1,
      },
      **sizes, "compile_s": 6.5 if config["seed"] == 100 else 0.2,
      "train_s": 9.0 + 0.5 * noise(run_id), "eval_s": 0.6, "wall_s": 17.0,
      "step_ms_median": 30.0,
    },
  )  # fmt: skip


def base_config() -> dict:
  return {
    "seed": 0,
    "model": {"name": "llama", "num_layers": 2, "model_dim": 64},
    "norm": {"name": "layer_norm", "eps": 1e-6},
    "optimizer": {"name": "adamw", "learning_rate": 1e-3},
    "data": {"name": "shakespeare"},
    "train": {"num_steps": STEPS, "batch_size": 16},
  }


def applied(overrides: dict, seed: int) -> dict:
  """The base config with dotted overrides."""
  config = base_config()
  config["seed"] = seed
  for path, value in overrides.items():
    block, _, key = path.partition(".")
    config[block] = {**config.get(block, {}), key: value}
  return config


NORMS = {"layer_norm": 0.0, "rms_norm": -0.002, "dyt": 0.06}
OPTIMIZERS = {
  "adamw": (0.0, 1e-3),
  "muon": (-0.09, 3e-3),
  "sinkgd": (-0.03, 1e-2),
}


def write_sweep(
  out: Path,
  *,
  norms=NORMS,
  optimizers=OPTIMIZERS,
  seeds=(100, 101, 102),
  diverged=(("dyt+sinkgd", 101, 140),),
  trials: bool = True,
  baseline="layer_norm+adamw",
  spread: float = 0.012,
) -> Path:
  """A whole sweep: norms × optimizers, tuned learning rates, final seeds.

  `diverged` lists (method, seed, step) of final runs. Half of the `spread` of
  the final loss over seeds is shared by all methods, as a data order is.
  """
  points, methods = [], []
  for norm, shift in norms.items():
    for optimizer, (gain, best) in optimizers.items():
      label = f"{norm}+{optimizer}"
      names = {"norm.name": norm, "optimizer.name": optimizer}
      final = 1.72 + shift + gain
      settings = SETTINGS if trials else ()
      for rate in settings:
        overrides = {**names, "optimizer.learning_rate": rate}
        run_id = f"t{zlib.crc32(f'{label}{rate}'.encode()):08x}"
        points.append(("tune", run_id, label, overrides, 0))
        loss = final + 0.05 * math.log(rate / best) ** 2
        lost = 60 if optimizer == "adamw" and rate == SETTINGS[-1] else None
        write_run(
          out / "runs" / run_id, applied(overrides, 0), loss,
          diverged_at_step=lost,
        )  # fmt: skip
      key = "optimizer.learning_rate"
      methods.append(
        {
          "label": label, "overrides": names,
          "tuned": {key: best} if trials else None,
          "on_edge": trials and best == SETTINGS[-1],
        }
      )  # fmt: skip
      for seed in seeds:
        overrides = {**names, key: best}
        run_id = f"f{zlib.crc32(f'{label}{seed}'.encode()):08x}"
        points.append(("final", run_id, label, overrides, seed))
        lost = {(m, s): step for m, s, step in diverged}.get((label, seed))
        wiggle = spread * (noise("order", seed) + noise(label, seed)) / 2
        write_run(
          out / "runs" / run_id, applied(overrides, seed), final + wiggle,
          diverged_at_step=lost,
        )  # fmt: skip
  write_json(
    out / "plan.json",
    {
      "schema": 1, "sweep_id": "9f86d081884c",
      "config_file": "configs/sweeps/quickstart.py",
      "config": base_config(), "metric": "eval/loss", "mode": "min",
      "baseline": baseline,
      "tuned": ["optimizer.learning_rate"] if trials else [],
      "trials_per_method": len(SETTINGS) if trials else 0,
      "methods": methods,
      "points": [
        {
          "run_id": run_id, "stage": stage, "method": label,
          "overrides": overrides, "seed": seed, "program": "p",
        }
        for stage, run_id, label, overrides, seed in points
      ],
    },
  )  # fmt: skip
  return out


# As outside of these tests, for those that look at figures.
draw_new = redraw._new


def _undrawn(figure, by):
  """A figure's files without matplotlib: drawing is most of a report's time."""
  stamp = redraw._stamp(figure, by)
  svg = '<svg id="undrawn"></svg>' + redraw._comment(stamp)
  return redraw.Drawn(figure, svg, stamp.encode(), old=False)


@pytest.fixture(scope="package", autouse=True)
def undrawn():
  """Tests that look at no figure draw none; test_drawing.py draws."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(redraw, "_new", _undrawn)
    yield


@pytest.fixture
def make_sweep(tmp_path):
  """Writes a sweep under a temporary directory; see `write_sweep`."""
  return lambda **options: write_sweep(tmp_path / "out", **options)


def add_probes(out: Path) -> None:
  """Rows of probes at four depths, in every run that has rows."""
  for path in (out / "runs").glob("*/metrics.jsonl"):
    shift = noise(path.parent.name)
    values = {}
    for depth in range(4):
      values[f"activation/layers/{depth}/attention/mean"] = shift
      values[f"activation/layers/{depth}/attention/rms"] = depth + 2 + shift
      values[f"gradient_norm/layers/{depth}"] = 1 / (depth + 2 + shift)
    with path.open("a") as file:
      for step in (STEPS // 2, STEPS):
        row = {"kind": "probe", "step": step, "time_s": 0.01 * step, **values}
        file.write(json.dumps(row) + "\n")


def set_state_bytes(out: Path, bytes_of: Callable[[dict], int]) -> None:
  """Each run's optimizer state, by its config."""
  for path in (out / "runs").glob("*/run.json"):
    record = json.loads(path.read_text())
    size = {"optimizer_state_bytes": bytes_of(record["config"])}
    write_json(path, record | size)
    result = path.with_name("result.json")
    if result.exists():
      write_json(result, json.loads(result.read_text()) | size)


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory):
  """Nine methods, three seeds; tests must not change it."""
  return write_sweep(tmp_path_factory.mktemp("finished") / "quickstart")
