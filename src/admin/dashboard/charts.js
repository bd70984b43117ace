// Live line charts of the last five minutes, as SVG: a line per store, told apart by colour and by dashes, read off with the
// pointer or the arrow keys.

import { attribute, clock, h, s } from "./dom.js";

/** Milliseconds that a chart shows. */
export const WINDOW = 300_000;

const HEIGHT = 148;
const MARGIN = { top: 8, right: 10, bottom: 20, left: 48 };
/** A line is not drawn across a longer silence. */
const GAP = 3_500;

/** The samples of the window, and the flips that fell into it. */
export class History {
  constructor() {
    this.samples = [];
    this.flips = [];
  }

  add(sample) {
    const last = this.samples.at(-1);
    if (last && sample.at_ms <= last.at_ms) return;
    this.samples.push(sample);
    const from = sample.at_ms - WINDOW - 2_000;
    while (this.samples[0].at_ms < from) this.samples.shift();
    this.flips = this.flips.filter((flip) => flip.at_ms >= from);
  }

  flip(event) {
    if (!this.flips.some((flip) => flip.id === event.id)) this.flips.push(event);
  }

  /** One line: the value that `pick` finds in each sample. */
  line(name, look, pick) {
    return { name, look, points: this.samples.map((sample) => [sample.at_ms, pick(sample) ?? null]) };
  }
}

export class Chart {
  /** `format` makes text of a value; `least` is the smallest top of the scale. */
  constructor({ title, format, least = 1, controls = null }) {
    Object.assign(this, { title, format, least, lines: [], at: null, now: 0, width: 0, stroke: new Map() });
    this.grid = s("g", { class: "grid" });
    this.marks = s("g", { class: "flips" });
    this.drawn = s("g", { class: "lines" });
    this.cursor = s("line", { class: "cursor", visibility: "hidden" });
    this.svg = s("svg", { class: "plot", role: "img", tabindex: 0, height: HEIGHT }, this.grid, this.marks, this.drawn, this.cursor);
    this.legend = h("ul", { class: "legend" });
    this.element = h("figure", { class: "card chart" },
      h("figcaption", {}, h("span", { class: "title" }, title), controls, this.legend), this.svg);
    this.svg.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.svg.addEventListener("pointerleave", () => this.read(null));
    this.svg.addEventListener("blur", () => this.read(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  show(lines, now, flips = []) {
    Object.assign(this, { lines, now, flips });
    this.draw();
  }

  x(at) {
    return MARGIN.left + (1 - (this.now - at) / WINDOW) * (this.width - MARGIN.left - MARGIN.right);
  }

  y(value) {
    return HEIGHT - MARGIN.bottom - (value / this.top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  draw() {
    this.width = this.svg.clientWidth;
    if (!this.width || !this.now) return;
    attribute(this.svg, "viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const values = this.lines.flatMap((line) => line.points.map(([, value]) => value ?? 0));
    const step = niceStep(Math.max(this.least, ...values) / 3);
    this.top = Math.max(step, Math.ceil(Math.max(this.least, ...values) / step) * step);
    this.axes(step);
    this.flags();
    for (const line of this.lines) this.path(line);
    for (const [name, path] of this.stroke) {
      if (!this.lines.some((line) => line.name === name)) {
        path.remove();
        this.stroke.delete(name);
      }
    }
    this.words();
  }

  axes(step) {
    const parts = [];
    for (let value = 0; value <= this.top + step / 2; value += step) {
      const y = this.y(value);
      parts.push(s("line", { x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }));
      parts.push(s("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, this.format(value)));
    }
    const minutes = this.width < 420 ? [5, 3, 1, 0] : [5, 4, 3, 2, 1, 0];
    for (const ago of minutes) {
      const x = this.x(this.now - ago * 60_000);
      const anchor = ago === 0 ? "end" : ago === 5 ? "start" : "middle";
      parts.push(s("text", { x, y: HEIGHT - 5, "text-anchor": anchor }, ago === 0 ? "now" : `−${ago} min`));
    }
    this.grid.replaceChildren(...parts);
  }

  flags() {
    const seen = (this.flips ?? []).filter((flip) => flip.at_ms > this.now - WINDOW && flip.at_ms <= this.now);
    this.marks.replaceChildren(...seen.map((flip) => {
      const x = this.x(flip.at_ms);
      return s("g", {}, s("title", {}, `${clock(flip.at_ms)} ${flip.what}`),
        s("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
        s("path", { d: `M${x - 4} ${MARGIN.top - 6}h8l-4 6z` }));
    }));
  }

  path(line) {
    let path = this.stroke.get(line.name);
    if (!path) {
      path = s("path", { class: line.look });
      this.stroke.set(line.name, path);
      this.drawn.append(path);
    }
    attribute(path, "class", line.look);
    let d = "";
    let before = null;
    for (const [at, value] of line.points) {
      if (value === null || at < this.now - WINDOW) {
        before = null;
        continue;
      }
      const joined = before !== null && at - before < GAP;
      d += `${joined ? "L" : "M"}${this.x(at).toFixed(1)} ${this.y(value).toFixed(1)}`;
      before = at;
    }
    attribute(path, "d", d || "M0 0");
  }

  /** The legend says the values: those at the cursor, else the newest. */
  words() {
    const when = this.at === null ? null : Math.min(this.at, this.now);
    attribute(this.cursor, "visibility", when === null ? "hidden" : "visible");
    if (when !== null) {
      for (const end of ["x1", "x2"]) attribute(this.cursor, end, this.x(when));
      attribute(this.cursor, "y1", MARGIN.top);
      attribute(this.cursor, "y2", HEIGHT - MARGIN.bottom);
    }
    const said = this.lines.map((line) => [line, valueAt(line.points, when ?? this.now)]);
    const items = said.map(([line, value]) => h("li", { class: line.look },
      s("svg", { width: 22, height: 8, "aria-hidden": "true" }, s("path", { d: "M0 4H22", class: line.look })),
      h("span", {}, line.name), h("b", {}, value === null ? "–" : this.format(value))));
    if (when !== null) items.unshift(h("li", { class: "when" }, clock(when)));
    this.legend.replaceChildren(...items);
    const newest = said.map(([line, value]) => `${line.name} ${value === null ? "no value" : this.format(value)}`).join(", ");
    attribute(this.svg, "aria-label", `${this.title}, last five minutes. ${when === null ? "Now" : clock(when)}: ${newest || "no data"}`);
  }

  point(offset) {
    const share = (offset - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    this.read(this.now - (1 - Math.min(1, Math.max(0, share))) * WINDOW);
  }

  key(event) {
    const step = { ArrowLeft: -5_000, ArrowRight: 5_000, PageUp: -60_000, PageDown: 60_000 }[event.key];
    if (event.key === "Escape") this.read(null);
    if (!step) return;
    event.preventDefault();
    this.read(Math.min(this.now, Math.max(this.now - WINDOW, (this.at ?? this.now) + step)));
  }

  read(at) {
    this.at = at;
    if (this.now) this.words();
  }
}

function valueAt(points, at) {
  let found = null;
  for (const [when, value] of points) {
    if (when > at + 500) break;
    found = at - when < GAP ? value : null;
  }
  return found;
}

/** 1, 2 or 5 times a power of ten: the steps that people read. */
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  return factor * power;
}

/** A choice of one of a few, as buttons. */
export function choice(label, names, chosen, onchange) {
  const buttons = names.map((name) => h("button", {
    type: "button", "aria-pressed": String(name === chosen),
    onclick: () => {
      for (const button of buttons) attribute(button, "aria-pressed", String(button.textContent === name));
      onchange(name);
    },
  }, name));
  return h("span", { class: "choice", role: "group", "aria-label": label }, buttons);
}
