"""Arrays of your own: an .npz file, or a folder of .npy files (memory-mapped).

Inputs (n, d) are features, (n, y, x) or (n, y, x, c) images. Targets (n,) of
integers are classes; floats are values, whose loss is squared_error.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; `path` must be given."""
  return ml_collections.ConfigDict(
    {
      "name": "arrays",
      # The file or folder; relative to the current one.
      "path": ml_collections.config_dict.placeholder(str),
      # Keys of the .npz, or names of files without .npy.
      "inputs": "x",
      "targets": "y",
      # Splits of their own, as in "x_test"; "" draws them by a hash of each
      # row's number: rows that are added at the end do not move the others.
      "validation_inputs": "",
      "validation_targets": "",
      "test_inputs": "",
      "test_targets": "",
      "validation_fraction": 0.1,
      "test_fraction": 0.0,
      # To make choices on: never trained on, taken from what would be.
      "tuning_fraction": 0.1,
      # For less than 1,000 rows, say 5: the seed says which part of so many
      # validates, and the next one tunes, in place of the two fractions.
      "num_folds": 0,
      # Which domain a row is from: integers from 0, for norms as dsbn and for
      # context. Splits of their own have theirs; "": nothing says it.
      "domains": "",
      "validation_domains": "",
      "test_domains": "",
      "targets_are": "",  # or "classes", "values"; "": by their type
      "num_classes": 0,  # 0: the largest label and one
      # Inputs: "standardize" by the training rows (features each, images as a
      # whole), "unit" (pixels over white), or "none".
      "scaling": "standardize",
      "standardize_targets": True,  # values: a loss of 1 is that of the mean
      # Training images are shifted by up to 4 pixels, and mirrored.
      "augment": False,
      "mirror": True,
      # "skip" leaves out rows that are not finite, or whose label is out of
      # range; run.json says which.
      "on_bad_file": "refuse",
    }
  )
