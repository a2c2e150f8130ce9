"""What the official code and ours are given: NumPy alone."""

import numpy as np

NUM_TOKENS, FEATURES, VOCABULARY = 600, 24, 50


def activations():
  """(n, d): squared ReLU of correlated features; two units are dead."""
  generator = np.random.default_rng(0)
  mixed = generator.normal(size=(FEATURES, FEATURES))
  mixed *= np.arange(1, FEATURES + 1)[:, None] ** -0.5
  h = generator.normal(size=(NUM_TOKENS, FEATURES)) @ mixed
  h[:, :2] = -1
  return np.maximum(h, 0) ** 2


def counts():
  """(v,): Zipf's, with words that are as frequent as others."""
  return np.random.default_rng(1).permutation(
    1000 // np.arange(1, VOCABULARY + 1)
  )


def tokens():
  """(n,): a word per activation."""
  generator = np.random.default_rng(2)
  share = counts() / counts().sum()
  return generator.choice(VOCABULARY, NUM_TOKENS, p=share)
