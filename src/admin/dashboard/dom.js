// Elements and words. Everything that is shown goes through here as text: nothing from the proxy is ever read as HTML,
// for statements, names and messages come from whoever can send a statement.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `on…` properties are listeners, `class` and attributes as named, null and false are left out. Children are nodes or text. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same, of SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts these in the place of what an element holds. */
export function put(element, ...children) {
  element.replaceChildren();
  fill(element, {}, children);
}

export const $ = (id) => document.getElementById(id);

/** Sets text only where it differs, so that a screen reader is not told again and a selection stays. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/** An attribute that is set, or taken away by null. */
export function attribute(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Keeps `parent`'s children in step with `items`, by key: an element lives as long as its item, and so do its focus and what is open in it. */
export function keyed(parent, items, key, create, update) {
  const old = new Map();
  for (const child of [...parent.children]) {
    if (child.dataset.key === undefined) child.remove();
    else old.set(child.dataset.key, child);
  }
  let before = null;
  for (const item of items) {
    const name = String(key(item));
    let element = old.get(name);
    if (!element) {
      element = create(item);
      element.dataset.key = name;
    }
    old.delete(name);
    const next = before ? before.nextElementSibling : parent.firstElementChild;
    if (next !== element) parent.insertBefore(element, next);
    update?.(element, item);
    before = element;
  }
  for (const element of old.values()) element.remove();
}

const SHAPES = {
  good: "M3 8.5l3.2 3.2L13 4.8",
  bad: "M4 4l8 8M12 4l-8 8",
  warn: "M8 3v6.2M8 12.2v.6",
  turn: "M12.6 6A5 5 0 1 0 13 9M13 3v3.4H9.6",
  none: "M4 8h8",
};

/** A mark that differs by shape, not only by colour; the word stands beside it. */
export function mark(kind) {
  const path = s("path", { d: SHAPES[kind] ?? SHAPES.none, fill: "none", stroke: "currentColor", "stroke-width": 2.2, "stroke-linecap": "round", "stroke-linejoin": "round" });
  return s("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true", class: `mark ${kind}` }, path);
}

/** Of a store's health. */
export const healthMark = (state) => ({ up: "good", suspect: "warn", down: "bad", recovering: "turn" })[state] ?? "none";

/** `mark word`, replaced only when it changes. */
export function marked(element, kind, text) {
  if (element.dataset.is === `${kind} ${text}`) return;
  element.dataset.is = `${kind} ${text}`;
  element.replaceChildren(mark(kind), h("span", {}, text));
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** `1 row`, `2 rows`. */
export const count = (value, one) => `${number(value)} ${one}${value === 1 ? "" : "s"}`;

export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));

/** Per second: small ones keep a digit. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10 || value === 0) return number(value);
  return value < 0.1 ? "<0.1" : value.toFixed(1);
}

/** Microseconds. */
export function micros(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1_000) return `${Math.round(value)} µs`;
  if (value < 10_000) return `${(value / 1_000).toFixed(1)} ms`;
  if (value < 1_000_000) return `${Math.round(value / 1_000)} ms`;
  return value < 10_000_000 ? `${(value / 1_000_000).toFixed(1)} s` : duration(value / 1_000_000);
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds, in the two largest units. */
export function duration(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const parts = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => total >= size);
  if (first < 0) return "0 s";
  let rest = total;
  const words = [];
  for (const [unit, size] of parts.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count || !words.length) words.push(`${count} ${unit}`);
  }
  return words.join(" ");
}

export const ago = (ms) => `${duration((Date.now() - ms) / 1_000)} ago`;

const two = (n) => String(n).padStart(2, "0");

export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** With the day, for what is older than today. */
export function moment(ms) {
  const at = new Date(ms);
  const today = at.toDateString() === new Date().toDateString();
  return today ? clock(ms) : `${at.getDate()} ${MONTHS[at.getMonth()]} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** Says something to who does not see the page. */
export function announce(text) {
  const element = $("announcer");
  element.textContent = "";
  requestAnimationFrame(() => { element.textContent = text; });
}

/**
 * A message of several lines as a list: what does not hold, and below each what mends it (`help:` or `→`). A first line that ends with
 * a colon stands above the list, and lines that are indented below it are its items.
 */
export function problems(message) {
  const lines = String(message).split("\n").filter((line) => line.trim());
  const lead = lines.length > 1 && lines[0].trim().endsWith(":") ? lines.shift().trim() : null;
  const items = [];
  for (const line of lines) {
    const help = /^\s*(?:help:|→)\s*(.*)$/.exec(line);
    const general = lead && /^\s*help:/.test(line);
    if (help && items.length && !general) items.at(-1).help.push(help[1]);
    else if (help) items.push({ what: null, help: [help[1]], more: [] });
    else if (!lead && /^\s/.test(line) && items.length) items.at(-1).more.push(line.trim());
    else items.push({ what: line.trim(), help: [], more: [] });
  }
  return h("div", { class: "told" }, lead && h("p", {}, lead), h("ul", { class: "problems" }, items.map((item) => h("li", {},
    item.what && h("span", {}, item.what),
    item.more.map((line) => h("span", { class: "more" }, line)),
    item.help.map(mend),
  ))));
}

/** A mend's text, with its command to copy where it has one: between backticks, or behind a colon. */
export function mend(line) {
  const found = /`(switchover [^`]+)`/.exec(line) ?? /(?:^|: )((?:switchover|ALTER|CREATE|DROP|GRANT|SELECT|SET|SHOW) .+[^…])$/.exec(line);
  return found ? command(found[1], line) : h("span", { class: "mend" }, line);
}

/** A command or statement to copy, within the words around it. */
export function command(text, words = null) {
  const button = h("button", {
    type: "button", class: "quiet copy", "aria-label": `Copy: ${text}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        say(button, "Copied");
      } catch {
        getSelection().selectAllChildren(code);
        say(button, "Selected");
      }
    },
  }, "Copy");
  const code = h("code", {}, text);
  const [before, after] = (words ?? text).split(text);
  return h("span", { class: "command" }, h("span", {}, before?.replace(/`$/, ""), code, after?.replace(/^`/, "")), button);
}
