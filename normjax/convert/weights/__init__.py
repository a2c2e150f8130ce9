"""Files of weights: what they hold is known before a number is read."""

from normjax.convert.weights.base import Checkpoint, Tensor
from normjax.convert.weights.folder import open_checkpoint

__all__ = ["Checkpoint", "Tensor", "open_checkpoint"]
