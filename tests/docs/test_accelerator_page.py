"""The page of speeds on accelerators, of a file that is made up."""

import json

import pytest

from docs.generator import accelerators

STEP = {"examples_per_s": 81920.4, "unit": "tokens", "peak_bytes": 3 * 2**30}
KERNEL = {
  "op": "rms_norm", "spec": "8192 x 512 bfloat16", "impl": "mosaic_gpu",
  "pass": "forward", "median_s": 1e-5, "bytes_per_s": 1.7e12, "of_copy": 0.8,
  "yardstick_over_this": 1.5, "clock": "profiler",
}  # fmt: skip
MADE_UP = {
  "device_kind": "A Chip 9",
  "bench": {
    "device": {
      "results": [
        {
          "item": "facts",
          "facts": {"platform": "gpu"},
          "versions": {"jax": "0.11", "optax": None},
          "date": "2026-01-02",
        },
        {"item": "copy", "facts": {"copy_gb_per_s": 4100.4}},
      ]
    },
    "contract": {"error": "stopped after 110 s", "results": []},
    "kernels": {
      "results": [KERNEL, {"op": "rms_norm", "error": "no\nTPU"}],
    },
    "steps": {
      "results": [
        {
          "item": "normjax llama_60m float32",
          "seconds": 0.2, "device_s": 0.15, "mfu": 0.412, **STEP,
        },
        {"item": "flax.linen llama_60m float32", "seconds": 0.25, **STEP},
        {"item": "normjax gpt2 float32", "seconds": 0.5, "mfu": None, **STEP},
        {"item": "flax.linen gpt2 float32", "error": "out of memory"},
      ]
    },
    "optimizers": {"results": [{"item": "normjax muon", "seconds": 0.004}]},
    "populations": {
      "results": [
        {
          "item": "4 members",
          "alone_s": 0.03, "together_s": 0.02, "alone_over_together": 1.5,
        },
        {"item": "16 members", "skipped": "none"},
      ]
    },
    "deterministic": {
      "results": [{"item": "resnet50 plain", "equal": False, "seconds": 0.1}]
    },
  },
}  # fmt: skip


def test_without_a_file_it_says_that_nothing_was_measured(tmp_path):
  (tmp_path / "cpu_tiny.json").write_text("{}")
  for folder in (tmp_path, tmp_path / "none"):
    said = accelerators.page(folder)
    assert "**No device has been measured yet.**" in said
    assert "## " not in said


def test_a_file_is_a_section(tmp_path):
  (tmp_path / "a_chip_9").mkdir()
  file = tmp_path / "a_chip_9" / "results.json"
  file.write_text(json.dumps(MADE_UP))
  said = accelerators.page(tmp_path)
  assert "has been measured" not in said
  for line in (
    "## A Chip 9",
    "By 2026-01-02. jax 0.11. Measured: a copy 4100 GB/s.",
    "| llama_60m float32 | 200 | 150 | 250 | 0.80 | 8.192e+04 tokens/s | 41% |"
    " 3.0 |",
    "| gpt2 float32 | 500 |  |  |  | 8.192e+04 tokens/s |  | 3.0 |",
    "| `rms_norm` | 8192 x 512 bfloat16 | forward | `mosaic_gpu` | 10.0 | 1700"
    " | 80 | 1.50 | profiler |",
    "| `muon` | 4 |  |",
    "| resnet50 plain | **no** | 100 |",
    # What went wrong, and what was left out, is told.
    "- contract: `stopped after 110 s`",
    "- kernels: `kernels: no TPU`",
    "- steps: `flax.linen gpt2 float32: out of memory`",
    "| 4 members | 30 | 20 | 1.50 |",
    "- populations: `16 members: none`",
  ):
    assert line in said.splitlines()


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ("{", "JSONDecodeError"),
    ("[]", "TypeError"),
    ("{}", "KeyError: 'bench'"),
    (
      json.dumps(MADE_UP).replace('"gpu"', '"cpu"'),
      "ValueError: it is of a CPU",
    ),
  ],
)
def test_another_file_is_named(tmp_path, content, words):
  file = tmp_path / "x.json"
  file.write_text(content)
  with pytest.raises(
    ValueError, match="is no file of `normjax bench gpu`"
  ) as e:
    accelerators.page(tmp_path)
  assert str(file) in str(e.value)
  assert words in str(e.value)
