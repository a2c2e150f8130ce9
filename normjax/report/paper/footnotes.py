"""The notes to a judged table: what its words and marks mean, what is known."""

from normjax.papers.statements import shown
from normjax.report import notes
from normjax.report.notes import DIVERGED_MARK
from normjax.report.paper.judged import Judged, attainable


def second_hand(judged: Judged) -> list[str]:
  """Sources of second-hand numbers, in the order of their marks."""
  sources = [
    each.number.source
    for each in judged.cells
    if each.number is not None and each.number.second_hand
  ]
  return list(dict.fromkeys(sources))


def sentence(text: str) -> str:
  """With a full stop at its end."""
  text = text.strip()
  return text if text.endswith((".", "!", "?")) else f"{text}."


def on_cells(judged: Judged) -> list[str]:
  """What a reader must know to read the table."""
  found = [sentence(note) for note in judged.table.notes]
  if judged.scale != "paper" and any(each.number for each in judged.cells):
    found.append(
      f"At {judged.scale} scale the paper's numbers stand beside, and are not"
      " judged."
    )
  elif any(each.number and not each.number.text for each in judged.cells):
    found.append(
      "agrees: the 95% t-interval of the measured mean, widened by the paper's"
      " plus-minus where it prints one and by half of its last digit, holds"
      " the paper's number; differs: it does not, adjusted by Holm for the"
      " number of cells. A wide interval agrees with much."
    )
  found += on_sources(judged)
  lost = [
    f"{shown(each.cell.ref)} {len(each.measured.diverged)} of"
    f" {each.measured.num_over}"
    for each in judged.cells
    if each.measured.diverged and each.interval.n
  ]
  if lost:
    found.append(
      f"{DIVERGED_MARK} Diverged: {', '.join(lost)}. The mean is over the"
      " survivors only, which flatters; nothing is tested on them."
    )
  if any(each.measured.on_edge for each in judged.cells):
    found.append(notes.EDGE)
  is_percent = any(e.number and e.number.is_percent for e in judged.cells)
  if is_percent and judged.table.units != "%":
    found.append("The paper's numbers are percentages, ours fractions.")
  found += [
    f"Known of the paper: {sentence(trap.text)} ({trap.source})"
    for trap in judged.printed.traps_of(judged.table.target)
  ]
  return found


def on_sources(judged: Judged) -> list[str]:
  """Where the paper's numbers were read."""
  given = [each.number for each in judged.cells if each.number is not None]
  own = dict.fromkeys(n.source for n in given if not n.second_hand)
  found = [f"The paper's numbers: {'; '.join(own)}."] if own else []
  found += [
    f"[{index}] Second-hand, not read in the paper: {source}."
    for index, source in enumerate(second_hand(judged), 1)
  ]
  unverified = [shown(e.cell.ref) for e in judged.cells if e.unverified]
  if unverified:
    found.append(
      "Unverified numbers are not printed as the paper's:"
      f" {', '.join(unverified)}."
    )
  return found


def on_statements(judged: Judged) -> list[str]:
  """How statements were judged."""
  if not judged.statements:
    return ["No statement is judged: none was made, or none is of these runs."]
  found = []
  tested = [each for each in judged.statements if each.p_holm is not None]
  planned = [
    each.measured.num_planned
    for each in judged.cells
    if each.measured.num_planned and not each.measured.computed
  ]
  seeds = attainable(judged.table, min(planned)) if planned else None
  if seeds is not None and not seeds.can_decide:
    found.append(str(seeds))
  if tested:
    found.append(
      "Measured is the weighted sum of the statement's cells, seed by seed, of"
      ' "a is below b" b less a,'
      " with its unadjusted 95% t-interval. confirmed: the interval lies inside"
      " of what is needed; contradicted: outside; both with p (Holm), adjusted"
      " over the table's statements, below 0.05; else undecided."
    )
  return found
