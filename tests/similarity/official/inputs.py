"""Similarities and embeddings that any NumPy makes alike.

Every number is one product's fraction, so that a recording need not hold it.
Only NumPy is imported: `record.py` runs where normjax is not.
"""

import numpy as np

QUERIES, ITEMS, BANK, GALLERY_BANK = 24, 12, 30, 20
FEATURES, DIM, CLASSES, EXAMPLES = 6, 4, 5, 8


def _uniform(seed, shape):
  """In [-1, 1), by multiples of the golden ratio."""
  index = np.arange(1 + 1000 * seed, 1 + 1000 * seed + np.prod(shape))
  return (2 * (index * 0.6180339887498949 % 1) - 1).reshape(shape)


def _hubby(seed, rows):
  """Similarities, of which the first items have high ones to all."""
  return 0.6 * _uniform(seed, (rows, ITEMS)) + 0.4 * np.exp2(-np.arange(ITEMS))


def similarities():
  """(q, g): two queries per item, the right item a little above the rest."""
  right = np.repeat(np.eye(ITEMS), QUERIES // ITEMS, axis=0)
  return _hubby(1, QUERIES) + 0.5 * right


def query_bank():
  """(n, g); nothing of it is near to the last three items."""
  return _hubby(2, BANK) - (np.arange(ITEMS) >= ITEMS - 3)


def gallery_bank():
  """(m, g); all positive, as a square of it must rank alike."""
  return np.abs(_hubby(3, GALLERY_BANK)) + 0.01


def features():
  """(b, f, 2, 2): images that a mean over pixels makes features of."""
  return _uniform(4, (EXAMPLES, FEATURES, 2, 2))


def parameters():
  """The embedding's kernel, (f, d), and the proxies, (d, c)."""
  return _uniform(5, (FEATURES, DIM)), _uniform(6, (DIM, CLASSES))


def labels():
  """(b,)."""
  return np.arange(EXAMPLES) * 3 % CLASSES


def embeddings():
  """(n, d), and a class of each: for retrieval among them."""
  classes = np.arange(40) % 8
  centers = _uniform(7, (8, DIM))
  return centers[classes] + 0.5 * _uniform(8, (40, DIM)), classes
