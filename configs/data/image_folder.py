"""Images of your own: a folder per class, or `train/` and `val/` with those.

Splits without a folder are drawn by a hash of each path; Pillow decodes.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; `root` must be given."""
  return ml_collections.ConfigDict(
    {
      "name": "image_folder",
      # The folder; relative to the current one.
      "root": ml_collections.config_dict.placeholder(str),
      # The side of the square that the model reads, pixels. The shorter side
      # is resized to image_size / crop_fraction, bilinear; then the center.
      "image_size": 64,
      "crop_fraction": 1.0,  # 0.875 is ImageNet's evaluation
      "channels": 3,  # or 1: grey
      # Training images: "resized" takes a random part of 8% to 100% of the
      # area, "padded" shifts by up to 4 pixels; both mirror half of them.
      "augment": False,
      "crop": "resized",
      "mirror": True,
      # "standardize" by mean and deviation of pixels over 255, one number per
      # channel, () being ImageNet's; or "unit": pixels in [0, 1].
      "scaling": "standardize",
      "mean": (),
      "deviation": (),
      # Splits without a folder (train, val, test) are drawn by a hash of each
      # path: files that are added do not move the others.
      "validation_fraction": 0.1,
      "test_fraction": 0.0,
      # To make choices on: never trained on, taken from what would be.
      "tuning_fraction": 0.1,
      # A CSV file in the folder, with a line "path,domain" for each image, as
      # "train/cat/1.png,hospital a"; "": nothing says domains.
      "domains": "",
      # "skip" leaves out files that are no whole image, and classes with less
      # than two images; run.json says which.
      "on_bad_file": "refuse",
      # Folders whose files and pixels are no more are decoded once, into the
      # cache; larger ones as they are drawn. 0: always as they are drawn.
      "prepare_up_to_mb": 512,
      "read_ahead": 2,  # batches decoded while the device computes; 0: none
      "threads": 1,  # that make them, each with all cores to decode
    }
  )
