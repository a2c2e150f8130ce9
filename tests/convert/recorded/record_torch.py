"""Records how PyTorch writes tensors of several kinds.

    <python with torch> record_torch.py

Written beside this file: `torch.pt`, a state dict as a training script keeps
it, with views of storages, and `torch.npz`, its tensors by NumPy.
"""

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def main():
  whole = torch.arange(24.0).reshape(4, 6)
  half = whole.to(torch.bfloat16)
  tensors = {
    "whole": torch.nn.Parameter(whole),
    "turned": whole.T,
    "strided": half[1:3, ::2],
    "half": (whole / 7).to(torch.float16),
    "double": (whole / 7).double(),
    "count": torch.tensor(5),
    "flags": whole > 7,
    "empty": torch.zeros(0, 3),
  }
  torch.save({"epoch": 3, "state_dict": tensors}, HERE / "torch.pt")
  np.savez_compressed(
    HERE / "torch.npz",
    **{
      # NumPy has no bfloat16; every bfloat16 is a float32.
      name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy()
      for name, t in tensors.items()
    },
  )


if __name__ == "__main__":
  main()
