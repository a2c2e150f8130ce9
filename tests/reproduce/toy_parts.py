"""A toy table of two parts and computed values, and what a run of it found."""

TWO_PARTS = {
  "cells": 'papers.Cell("a"), papers.Cell("c", method="ccc", part="more"),'
  ' papers.Cell("exact", part="measure")',
  "expected": 'papers.above("c", "a"), papers.exactly("exact", 2)',
  "parts": '"sweep", "more", "measure"',
}


def values_of(outcome):
  """Row to seed to value, of what a run of a table has found."""
  return {
    each.cell.row: dict(each.measured.values) for each in outcome.judged.cells
  }
