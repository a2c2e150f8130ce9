"""Runs of one program as members of one population."""
