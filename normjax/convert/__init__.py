"""Trained models to other models that compute the same."""

from normjax.convert.deploy import deploy

__all__ = ["deploy"]
