// Figures over time, drawn by uPlot. The same figures stand in tables, which is their alternative as text.

import uPlot from "./uplot.js";
import { h } from "./dom.js";

const HOUR = 3600;
const DAY = 86400;
const COUNTS = [1, 2, 5, 10, 20, 50].flatMap((step) => [0, 2, 4, 6, 8].map((power) => step * 10 ** power)).sort((a, b) => a - b);
const hourName = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const dayName = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

/** The colour of the nth line, in the scheme that is on. */
export const color = (index) => variable(`--line-${(index % 12) + 1}`);

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The name of a bucket that starts `at` (seconds since 1970): days are UTC's, hours are here. */
export const bucketName = (at, bucket) => (bucket === "day" ? dayName : hourName).format(new Date(at * 1000));

export class Chart {
  #holder;
  #style;
  #plot = null;

  /** `style`: `stacked` bars or lines; `max`: the axis' end, if it is fixed; `format(value)`. */
  constructor(holder, style) {
    this.#holder = holder;
    this.#style = style;
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(holder);
  }

  /** `times`: the buckets' starts; `lines`: `{name, values, color}`, one value or null for each bucket. */
  draw(times, bucket, lines) {
    this.#plot?.destroy();
    const step = bucket === "day" ? DAY : HOUR;
    const rows = this.#style.stacked ? stacked(lines) : lines.map(({ values }) => values);
    this.#plot = new uPlot({
      ...this.#size(),
      padding: [8, 8, 0, 0],
      tzDate: (at) => (bucket === "day" ? uPlot.tzDate(new Date(at * 1000), "Etc/UTC") : new Date(at * 1000)),
      legend: { show: false },
      cursor: { sync: { key: "analytics" }, y: false, drag: { x: false, y: false } },
      scales: {
        x: { range: () => [times[0] - step / 2, times.at(-1) + step / 2] },
        y: { range: (_, low, high) => [0, this.#style.max ?? (high > 0 ? high * 1.08 : 1)] },
      },
      axes: [
        { ...axis(), size: 28, space: 56, incrs: [1, 2, 3, 4, 6, 12, 24, 48].map((times) => times * step), values: (_, at) => at.map((one) => bucketName(one, bucket)) },
        { ...axis(), size: 62, values: (_, values) => values.map(this.#style.format), ...(this.#style.whole ? { incrs: COUNTS } : {}) },
      ],
      series: [{}, ...lines.map((line) => this.#series(line))],
      hooks: { setCursor: [tip(times, bucket, lines, this.#style.format)] },
    }, [times, ...rows], this.#holder);
  }

  #series({ name, color: stroke }) {
    const bars = this.#style.stacked;
    return {
      label: name,
      stroke: bars ? variable("--panel") : stroke,
      width: bars ? 1 : 2,
      fill: bars ? stroke : undefined,
      paths: bars ? uPlot.paths.bars({ size: [0.7, 44], radius: 0.08 }) : undefined,
      points: bars ? { show: false } : { show: true, size: 6, fill: stroke, stroke },
    };
  }

  #size() {
    return { width: Math.max(200, this.#holder.clientWidth), height: 190 };
  }
}

const axis = () => ({
  stroke: variable("--muted"),
  font: "12px system-ui, sans-serif",
  grid: { stroke: variable("--rule"), width: 1 },
  ticks: { show: false },
});

/** Each line with all that stand below it: later ones are drawn over earlier ones. */
function stacked(lines) {
  const rows = [];
  let below = null;
  for (const { values } of [...lines].reverse()) {
    below = values.map((value, index) => (value ?? 0) + (below?.[index] ?? 0));
    rows.unshift(below);
  }
  return rows;
}

/** A small table beside the pointer. */
function tip(times, bucket, lines, format) {
  const box = h("div", { class: "tip", hidden: true });
  return (plot) => {
    const { idx, left } = plot.cursor;
    if (!box.isConnected) plot.over.append(box);
    const shown = idx === null || idx === undefined || left < 0 ? [] : lines.filter(({ values }) => values[idx]);
    box.hidden = !shown.length;
    if (box.hidden) return;
    box.replaceChildren(h("strong", {}, bucketName(times[idx], bucket)), ...shown.map((line) => {
      const mark = h("i");
      mark.style.background = line.color;
      return h("span", {}, mark, line.name, h("b", {}, format(line.values[idx])));
    }));
    const right = left > plot.over.clientWidth / 2;
    box.style.left = right ? "" : `${left + 12}px`;
    box.style.right = right ? `${plot.over.clientWidth - left + 12}px` : "";
  };
}
