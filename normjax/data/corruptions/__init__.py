"""Corruptions of images, with the constants of CIFAR-10-C.

corrupted = corrupt(images_byxc, "gaussian_noise_3", seed=0)

Hendrycks, Dietterich 2019, arXiv:1903.12261; the rules are those of the
authors' generator for CIFAR-10-C, the names TFDS's. Of its 15 common kinds 14
are here, and 3 of its 4 extra ones:

- `frost` blends in photographs that do not come with this package;
- `spatter` needs OpenCV's edge detection.

The authors' generator fixes no seed, so that nobody can draw their very images
again; `data.name = cifar10_corrupted` reads those. ImageMagick's motion blur is
written out in NumPy. The other differences stand at each kind.

The constants are for 32 x 32 pixels. At other sizes lengths in pixels (blurs,
the flakes of snow) stay as they are, so that small images are hit harder than
large ones; `elastic`, `pixelate`, `zoom_blur` and `fog` are parts of the side.
"""

from normjax.data.corruptions.corrupt import (
  KINDS,
  check_severity,
  corrupt,
  expand,
  means,
  split,
)

__all__ = ["KINDS", "check_severity", "corrupt", "expand", "means", "split"]
