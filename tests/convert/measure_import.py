"""Imports weights; prints seconds and bytes as JSON.

    python -m tests.convert.measure_import FOLDER

A file of weights does as well. Run in a process of its own: the peak of a
process never falls. `make` writes a folder of made-up ones.
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from safetensors import numpy as safetensors

CONFIG = {
  "model_type": "gpt2",
  "vocab_size": 50257,
  "n_positions": 1024,
  "n_embd": 768,
  "n_layer": 14,
  "n_head": 12,
}


def make(folder: Path) -> int:
  """Writes the folder; returns how many parameters it holds."""
  d, vocabulary = CONFIG["n_embd"], CONFIG["vocab_size"]
  tensors = {
    "wte.weight": (vocabulary, d),
    "wpe.weight": (CONFIG["n_positions"], d),
    "ln_f.weight": (d,),
    "ln_f.bias": (d,),
  }
  for layer in range(CONFIG["n_layer"]):
    for name, shape in {
      "ln_1": (d,),
      "ln_2": (d,),
      "attn.c_attn": (d, 3 * d),
      "attn.c_proj": (d, d),
      "mlp.c_fc": (d, 4 * d),
      "mlp.c_proj": (4 * d, d),
    }.items():
      tensors[f"h.{layer}.{name}.weight"] = shape
      tensors[f"h.{layer}.{name}.bias"] = shape[-1:]
  made = {name: np.ones(s, np.float32) for name, s in tensors.items()}
  folder.mkdir(parents=True)
  safetensors.save_file(made, folder / "model.safetensors")
  (folder / "config.json").write_text(json.dumps(CONFIG))
  return sum(value.size for value in made.values())


def _peak_bytes() -> int:
  """Most resident memory; `ru_maxrss` begins with that of who started this."""
  status = Path("/proc/self/status").read_text()
  return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def main():
  folder = Path(sys.argv[1])
  import jax

  from normjax import convert

  jax.block_until_ready(
    jax.numpy.ones(3) + 1
  )  # JAX's own start is not counted.
  files = folder.iterdir() if folder.is_dir() else [folder]
  file = max(files, key=lambda one: one.stat().st_size)
  with file.open("rb") as opened:  # Warm; in pieces, which are no peak.
    while opened.read(1 << 20):
      pass
  before = psutil.Process().memory_info().rss
  start, start_cpu = time.perf_counter(), time.process_time()
  model = convert.from_pretrained(folder)
  jax.block_until_ready(jax.tree.leaves(model))
  seconds = time.perf_counter() - start
  peak = _peak_bytes()
  print(
    json.dumps(
      {
        "seconds": seconds,
        # Of all threads: what is left of the time on a busy machine.
        "cpu_seconds": time.process_time() - start_cpu,
        "file_bytes": file.stat().st_size,
        "peak_bytes": peak - before,
      }
    )
  )


if __name__ == "__main__":
  main()
