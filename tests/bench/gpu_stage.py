"""A stage of `normjax bench gpu` that needs no device: what it does is asked.

python -m tests.bench.gpu_stage OUT WHAT
"""

import json
import sys
import time
from pathlib import Path

FACTS = {"device_kind": "A Chip 9", "platform": "gpu"}

if __name__ == "__main__":
  out, what = Path(sys.argv[1]), sys.argv[2]
  if what == "on a CPU":
    FACTS["platform"] = "cpu"
  with out.open("w") as file:
    file.write(json.dumps({"item": "facts", "facts": FACTS}) + "\n")
    file.flush()
    if what == "hangs":
      file.write('{"item": "hal')
      file.flush()
      time.sleep(600)
  if what == "fails":
    print("/somewhere/of/mine/kernel.py: no such instruction")
    sys.exit(3)
  if what == "keeps":
    out.write_text(json.dumps({"device": "x", "results": [{"op": "rms_norm"}]}))
