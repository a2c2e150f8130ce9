"""The report in a real browser: no errors, figures drawn, the table sorts."""

import html
import json
import re
import shutil
import subprocess

import pytest

from normjax import report
from normjax.report import redraw
from tests.report import conftest

CHROMIUM = next(
  filter(
    None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
  ),
  None,
)

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    CHROMIUM is None,
    reason="needs a browser on PATH: chromium or google-chrome",
  ),
]

# Runs before the page's own script.
_WATCH = """<script>
window.problems = [];
window.addEventListener("error", (e) => problems.push(String(e.message)));
for (const kind of ["error", "warn"])
  console[kind] = (...words) => problems.push(words.join(" "));
</script>"""

# Runs after it: a person's clicks and key, and what they then see.
_ACT = """<script>
const table = document.getElementById("table");
const heads = [...table.tHead.rows[0].cells];
const column = (index) =>
  [...table.tBodies[0].rows].map((row) => row.cells[index].textContent);
const state = (index) =>
  [heads.map((head) => head.getAttribute("aria-sort")), column(index)];
const seen = {heads: heads.map((head) => head.textContent), sorts: {}};
for (const [index, head] of heads.entries()) {
  head.firstElementChild.click();
  const up = state(index);
  head.firstElementChild.click();
  seen.sorts[head.textContent] = [up, state(index)];
}
heads[0].firstElementChild.focus();
seen.focused = document.activeElement.textContent;
// The drawn figures are what is printed.
for (const figure of document.querySelectorAll("figure.live .plot"))
  figure.style.display = "block";
seen.figures = [...document.querySelectorAll("figure svg")].map((svg) => {
  const box = svg.getBoundingClientRect();
  const axes = [...svg.querySelectorAll("[id*=axes_]")].map((axis) => {
    const inner = axis.getBBox();
    return [inner.width, inner.height];
  });
  return {size: [box.width, box.height], axes};
});
const curves = document.getElementById("figure-curves");
const ink = () => [...curves.querySelectorAll(".chart canvas")].map((c) =>
  c.toDataURL().length);
const legend = [...curves.querySelectorAll(".chart-tools button")];
seen.charts = [...document.querySelectorAll("figure.live .chart")].map((box) =>
  box.querySelector("canvas").getBoundingClientRect().width / box.clientWidth);
seen.legend = legend.map((one) => one.textContent);
const firstChart = curves.querySelector(".chart");
// After the plots have drawn themselves.
setTimeout(() => {
for (const key of ["ArrowLeft", "ArrowDown", "ArrowDown"])
  firstChart.dispatchEvent(new KeyboardEvent("keydown", {key}));
seen.tip = firstChart.querySelector(".tip").textContent;
seen.before = ink();
for (const one of legend.slice(2)) one.click();
seen.pressed = legend.map((one) => one.getAttribute("aria-pressed"));
setTimeout(() => {
seen.after = ink();
legend[0].click();
setTimeout(() => {
seen.overflow = document.documentElement.scrollWidth - innerWidth;
for (const figure of document.querySelectorAll("figure.live .plot"))
  figure.style.display = "";
seen.problems = problems;
const box = document.createElement("pre");
box.id = "seen";
box.textContent = JSON.stringify(seen);
document.body.append(box);
}, 50); }, 50); }, 50);
</script>"""


# Chromium's window is never as narrow as a phone; a frame in it is.
_FRAME = """<!DOCTYPE html>
<iframe id="frame" src="driven.html" style="border:0;width:%dpx;height:2400px">
</iframe>
<pre id="told"></pre>
<script>
const wait = () => {
  const seen = document.getElementById("frame").contentDocument
    ?.getElementById("seen");
  if (!seen) return setTimeout(wait, 50);
  document.getElementById("told").textContent = seen.textContent;
};
wait();
</script>"""


@pytest.fixture(scope="module", params=[1300, 390])
def seen(request, tmp_path_factory):
  """What the page did where it is as wide as given, in px."""
  directory = tmp_path_factory.mktemp("browser")
  out = conftest.write_sweep(directory / "quickstart")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(redraw, "_new", conftest.draw_new)
    text = report.write_report(out).html.read_text()
  text = text.replace("<head>", f"<head>{_WATCH}")
  text = text.replace("</body>", f"{_ACT}</body>")
  (directory / "driven.html").write_text(text)
  path = directory / "frame.html"
  path.write_text(_FRAME % request.param)
  result = subprocess.run(
    [
      CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
      "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--no-first-run", "--enable-logging=stderr",
      f"--user-data-dir={directory / 'profile'}",
      "--allow-file-access-from-files", "--window-size=1400,2500",
      "--virtual-time-budget=4000", "--dump-dom", path.as_uri(),
    ],
    capture_output=True, text=True, check=True, timeout=120,
  )  # fmt: skip
  found = re.search(r'<pre id="told">(.+?)</pre>', result.stdout, re.DOTALL)
  assert found, result.stderr
  seen = json.loads(html.unescape(found[1]))
  seen["console"] = re.findall(r"CONSOLE.*", result.stderr)
  return seen


def test_no_console_errors(seen):
  assert seen["problems"] == []
  assert seen["console"] == []


def test_every_figure_renders(seen):
  assert len(seen["figures"]) == 5
  for figure in seen["figures"]:
    assert min(figure["size"]) > 140
    assert figure["axes"]
    for width, height in figure["axes"]:
      assert min(width, height) > 50


def test_lines_answer(seen):
  # Loss by step, by time, and the tuned value.
  assert len(seen["charts"]) == 5
  assert all(0.9 < width <= 1.01 for width in seen["charts"])
  assert seen["legend"][:2] == ["log x", "log y"]
  assert len(seen["legend"]) == 2 + 9
  assert re.fullmatch(r"\S+\+\S+: [\d.]+.* at \d+", seen["tip"])
  assert seen["pressed"] == ["false"] * 11
  # Without its lines a plot is a smaller picture.
  for before, after in zip(seen["before"], seen["after"], strict=True):
    assert after < before


def test_page_itself_does_not_scroll_sideways(seen):
  assert seen["overflow"] <= 0


def test_sorts_numbers(seen):
  (name,) = [n for n in seen["heads"] if n.startswith("eval/loss")]
  up, down = seen["sorts"][name]
  numbers = [float(text.split()[0]) for text in up[1]]
  assert numbers == sorted(numbers)
  assert len(set(numbers)) == 9
  assert down[1] == up[1][::-1]


def test_sorts_text(seen):
  up, down = seen["sorts"]["method"]
  assert up[1] == sorted(up[1])
  assert down[1] == up[1][::-1]


def test_missing_values_stay_last(seen):
  (name,) = [n for n in seen["heads"] if n.startswith("difference")]
  up, down = seen["sorts"][name]
  # The baseline has no difference to itself.
  assert up[1][-1] == down[1][-1] == "–"


def test_aria_sort_marks_one_column(seen):
  for index, name in enumerate(seen["heads"]):
    up, down = seen["sorts"][name]
    for marks, word in ((up[0], "ascending"), (down[0], "descending")):
      expected = [None] * len(marks)
      expected[index] = word
      assert marks == expected


def test_headers_take_the_keyboard_focus(seen):
  assert seen["focused"] == "method"
