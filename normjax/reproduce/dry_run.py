"""What a table expects, and what would be run for it."""

from normjax.reproduce.planned import Planned, overridden


def show(plan: Planned, *, compiles: bool = True) -> None:
  """Prints what is expected, and what would run; writes nothing.

  Args:
    plan: of the table.
    compiles: whether each program is compiled, for its memory and time.

  Raises:
    UserError: bad input; data whose shapes are not known either is a DataError.
  """
  for text in _head(plan):
    plan.say(text)
  for part, prepared in plan.sweeps.items():
    if plan.has_parts:
      plan.say(f"Part {part}:")
    prepared.show()
    plan.check(part, strict=True)
    if compiles:
      prepared.show_programs()


def _head(plan: Planned) -> list[str]:
  """The table, how it differs from the paper's, and what is stated."""
  table = plan.table
  lines = [
    f"{plan.source.name}: {table.title} (scale {plan.scale}; arXiv"
    f" {plan.targets.arxiv or 'none'})",
    f"Needs {table.hardware}; {table.time or 'time not measured'}.",
    f"Otherwise than the paper: {table.differs}",
  ]
  if plan.another:
    return [*lines, f"{overridden(plan.another)}: nothing is judged."]
  lines.append("Expected, before it is measured:")
  for each in table.expected:
    lines.append(f"  {each.claim}{each.source and f' ({each.source})'}")
  return [*lines, *_attainable(plan)]


def _attainable(plan: Planned) -> list[str]:
  """What the seeds can decide of the statements that need a test."""
  from normjax.report import paper

  numbers = [len(each.sweep.seeds) for each in plan.sweeps.values()]
  found = paper.attainable(plan.table, min(numbers)) if numbers else None
  return [f"What it can decide of these: {found}"] if found else []
