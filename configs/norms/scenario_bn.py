"""Scenario-aware batch normalization of DSFNet, WWW 2025."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """As a copy of its code has it; num_domains is to be the data's."""
  return ml_collections.ConfigDict(
    {
      "name": "scenario_bn",
      "num_domains": 1,
      "hidden_dim": 64,
      "normalized": False,
      "identity_start": False,
      "momentum": 0.9,
      "eps": 1e-5,
    }
  )
