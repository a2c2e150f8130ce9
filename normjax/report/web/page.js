"use strict";
// A click sorts ascending, a second one descending; cells without a value
// stay last either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, index) => {
    const cell = row.cells[index];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    if (text === "" || text === "\u2013") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text : number;
  };
  heads.forEach((head, index) => {
    head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...body.rows].map((row) => [value(row, index), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = typeof a === "number" && typeof b === "number"
          ? a - b : String(a).localeCompare(String(b));
        return down ? -order : order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

// ----- Figures that answer: hover, a legend that toggles, log axes -----
// Without this script, and on paper, the drawn figure is shown.

const digits = (value) => Number(value.toPrecision(5)).toString();

// The index of the value of a sorted list that is nearest.
function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle; else high = middle;
  }
  return wanted - values[low] < values[high] - wanted ? low : high;
}

// Markers that stand alone, with whiskers and a tag; the second is pale.
const alone = (one) => one.look === "points" || one.look === "faint";

// What a panel's series are to the plotting library, all on one x.
function aligned(panel, hidden, styles) {
  const tables = [], series = [{}], bands = [];
  for (const one of panel.series) {
    const style = styles[one.label];
    const marks = alone(one) || ["chosen", "lost"].includes(one.look);
    const ring = one.look === "chosen";
    const hollow = ring || one.look === "faint";
    const shown = {
      label: one.label,
      stroke: one.look === "faint" ? style.color + "99" : style.color, dash: style.dash.map((d) => 2 * d),
      width: one.look === "diverged" ? 1 : 1.8, spanGaps: true,
      show: !hidden.has(one.label),
      points: {
        show: one.look !== "lost" && (marks || one.look === "trials"), size: ring ? 13 : 7,
        fill: hollow ? "transparent" : style.color,
      },
    };
    if (marks) shown.paths = () => null;
    tables.push([one.x, one.y]);
    series.push(shown);
    if (one.low.length && one.look === "line") {
      const edge = {...shown, width: 0, stroke: "transparent", points: {show: false}};
      tables.push([one.x, one.high], [one.x, one.low]);
      series.push(edge, {...edge});
      bands.push({series: [series.length - 2, series.length - 1],
        fill: style.color + "2e"});
    }
  }
  return {data: uPlot.join(tables), series, bands};
}

// × where a run diverged.
function cross(u, x, y) {
  const [left, top] = [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
  if (top < 0 || top > u.bbox.top + u.bbox.height) return;
  const arm = 4 * devicePixelRatio;
  u.ctx.beginPath();
  for (const sign of [-1, 1]) {
    u.ctx.moveTo(left - arm, top - sign * arm);
    u.ctx.lineTo(left + arm, top + sign * arm);
  }
  u.ctx.stroke();
}

// Ticks without those that another one leaves no room to name.
function spaced(u, splits) {
  let last = -Infinity;
  return splits.map((value) => {
    const at = u.valToPos(value, "x");
    if (at - last < 44) return null;
    last = at;
    return value;
  });
}

function chart(box, panel, styles, hidden, logs) {
  const css = getComputedStyle(document.documentElement);
  const ink = css.getPropertyValue("--ink").trim();
  const grid = {stroke: css.getPropertyValue("--grid").trim(), width: 1};
  const axis = {stroke: ink, grid, ticks: grid, font: "12px sans-serif",
    labelFont: "12px sans-serif"};
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  const {data, series, bands} = aligned(panel, hidden, styles);
  const limits = panel.y_limits;
  const marks = (u) => {
    for (const one of panel.series) {
      if (hidden.has(one.label)) continue;
      u.ctx.strokeStyle = styles[one.label].color;
      u.ctx.lineWidth = 1.5 * devicePixelRatio;
      if (one.look === "lost") one.x.forEach((x, i) => cross(u, x, one.y[i]));
      if (one.look === "diverged") cross(u, one.x.at(-1), one.y.at(-1));
      if (!alone(one)) continue;
      const x = u.valToPos(one.x[0], "x", true);
      if (one.tag) {
        u.ctx.fillStyle = ink;
        u.ctx.font = `${11 * devicePixelRatio}px sans-serif`;
        u.ctx.fillText(one.tag, x + 5 * devicePixelRatio,
          u.valToPos(one.y[0], "y", true) - 5 * devicePixelRatio);
      }
      if (!one.low.length) continue;
      // An interval may go on beyond the axes.
      const inside = (y) => Math.min(Math.max(u.valToPos(y, "y", true),
        u.bbox.top), u.bbox.top + u.bbox.height);
      u.ctx.beginPath();
      u.ctx.moveTo(x, inside(one.low[0]));
      u.ctx.lineTo(x, inside(one.high[0]));
      u.ctx.stroke();
    }
  };
  const point = (u) => {
    const {left, top} = u.cursor;
    let best = null, distance = 60;
    if (left >= 0) for (const one of panel.series) {
      if (hidden.has(one.label)) continue;
      const i = nearest(one.x, u.posToVal(left, "x"));
      const away = Math.hypot(u.valToPos(one.x[i], "x") - left,
        u.valToPos(one.y[i], "y") - top);
      if (away < distance) [best, distance] = [[one, i], away];
    }
    tip.hidden = best === null;
    if (!best) return;
    const [one, i] = best;
    const range = one.low.length
      ? ` (${digits(one.low[i])} to ${digits(one.high[i])})` : "";
    const value = one.look === "lost" ? "diverged" : digits(one.y[i]);
    tip.textContent = `${one.label}: ${value}${range} at ${digits(one.x[i])}`;
    const right = left > u.over.clientWidth / 2;
    tip.style.left = right ? "" : `${u.over.offsetLeft + left + 12}px`;
    tip.style.right = right
      ? `${box.clientWidth - u.over.offsetLeft - left + 12}px` : "";
    tip.style.top = `${top + 20}px`;
  };
  // Room for markers at the edges.
  const wide = panel.series.some(alone);
  const padded = (u, low, high) => {
    if (logs.x) return [low / 1.1, high * 1.1];
    const margin = 0.05 * (high - low || Math.abs(high) || 1);
    return [low - margin, high + margin];
  };
  const plot = new uPlot({
    width: Math.max(240, box.clientWidth), height: 300, series, bands,
    legend: {show: false}, cursor: {points: {show: false}},
    scales: {
      x: {time: false, distr: logs.x ? 3 : 1, ...(wide ? {range: padded} : {})},
      y: {distr: logs.y ? 3 : 1,
        ...(limits.length && !logs.y ? {range: () => limits} : {})},
    },
    axes: [
      {...axis, label: panel.x_label, labelSize: 22, size: 34,
        ...(panel.ticks.length ? {splits: () => panel.ticks,
          filter: spaced,
          values: (u, splits) => splits.map((v) => v === null ? "" : Number(v.toPrecision(3)))} : {})},
      {...axis, label: panel.y_label || undefined, labelSize: 20, size: 62,
        // The library's own rounds: 0.0025 to 0.003, 0.00003 to 0.
        values: (u, splits) => splits.map((v) => v === null ? "" : digits(v))},
    ],
    hooks: {setCursor: [point], draw: [marks]},
  }, data, box);
  box.append(tip);
  return plot;
}

function live(figure) {
  const told = JSON.parse(figure.dataset.figure);
  const hidden = new Set();
  const every = (key) => told.panels.every((panel) => panel.series.every((one) =>
    [...one[key], ...(key === "y" ? one.low : [])].every((v) => v > 0)));
  const logs = {x: told.panels.some((panel) => panel.log_x), y: false};
  const tools = document.createElement("div");
  tools.className = "chart-tools";
  const charts = document.createElement("div");
  charts.className = "charts";
  let plots = [];
  const draw = () => {
    plots.forEach((plot) => plot.destroy());
    charts.replaceChildren();
    // All boxes first: a panel's width depends on how many there are.
    const boxes = told.panels.map((panel) => {
      const box = document.createElement("div");
      box.className = "chart";
      box.tabIndex = 0;
      box.setAttribute("role", "img");
      box.setAttribute("aria-label",
        `${panel.title || figure.querySelector("h3").textContent}; arrow keys move the pointer`);
      const name = document.createElement("p");
      name.className = "name";
      // Breaks after a slash rather than inside a word.
      panel.title.split(/(?<=\/)/).forEach((part) =>
        name.append(part, document.createElement("wbr")));
      box.append(name);
      charts.append(box);
      return box;
    });
    plots = told.panels.map((panel, index) => {
      const box = boxes[index];
      const plot = chart(box, panel, told.styles, hidden, logs);
      let at = null;
      box.addEventListener("keydown", (event) => {
        const move = {ArrowLeft: [-10, 0], ArrowRight: [10, 0],
          ArrowUp: [0, -10], ArrowDown: [0, 10]}[event.key];
        if (!move) return;
        event.preventDefault();
        at ??= {left: plot.over.clientWidth / 2, top: plot.over.clientHeight / 2};
        at.left = Math.min(plot.over.clientWidth, Math.max(0, at.left + move[0]));
        at.top = Math.min(plot.over.clientHeight, Math.max(0, at.top + move[1]));
        plot.setCursor(at);
      });
      return plot;
    });
  };
  const button = (text, pressed, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.setAttribute("aria-pressed", pressed);
    made.append(text);
    made.addEventListener("click", () => {
      const on = made.getAttribute("aria-pressed") !== "true";
      made.setAttribute("aria-pressed", on);
      act(on);
      draw();
    });
    tools.append(made);
    return made;
  };
  for (const key of ["x", "y"])
    if (every(key)) button(`log ${key}`, logs[key], (on) => { logs[key] = on; });
  for (const [label, style] of Object.entries(told.styles)) {
    const made = button(`${style.tag} ${label}`.trim(), true,
      (on) => { if (on) hidden.delete(label); else hidden.add(label); });
    const key = document.createElement("canvas");
    [key.width, key.height, key.className] = [30, 8, "key"];
    const pen = key.getContext("2d");
    pen.strokeStyle = style.color;
    pen.lineWidth = 3;
    pen.setLineDash(style.dash.map((d) => 2 * d));
    pen.moveTo(0, 4);
    pen.lineTo(30, 4);
    pen.stroke();
    made.prepend(key);
  }
  figure.querySelector(".plot").after(charts, tools);
  figure.classList.add("live");
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; draw(); }
  });
}

document.querySelectorAll("figure[data-figure]").forEach(live);
