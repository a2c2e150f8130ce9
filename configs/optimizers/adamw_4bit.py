"""AdamW with 4-bit moments: torchao's, whose maps are of arXiv:2309.01507.

State per matrix entry, in bytes: 1.06. `signed_code="nf4",
unsigned_code="dynamic4", unsigned_rounding="preconditioner"` is ZIP-SR, and
`signed_code="nf4", unsigned_code="dynamic4_nonzero", calibrated=True` ZE-EDEN
(arXiv:2610.12444), but for its head's last tenth.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of torchao's AdamW4bit, but for where the 4 bits are.

  There blocks are cut from the flattened tensor ("flat"), and embeddings have
  4-bit states too.
  """
  return ml_collections.ConfigDict(
    {
      "name": "adamw_4bit",
      "learning_rate": 0.001,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-08,
      "weight_decay": 0.01,
      "block_size": 128,
      "min_size": 4096,
      "block_layout": "rows",
      "signed_code": "dynamic4",
      "unsigned_code": "linear4",
      "signed_rounding": "nearest",
      "unsigned_rounding": "nearest",
      "calibrated": False,
      "seed": 0,
    }
  )
