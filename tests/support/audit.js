// What an audit of accessibility looks at, on the page as it is now: names, references, roles, and the contrast of each text with
// what is behind it (WCAG 2.1 AA). Returns a list of complaints. Run by tests/it/dashboard.rs.
const complaints = [];
const shown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && element.getClientRects().length > 0;
const path = (element) => `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ""}${typeof element.className === "string" && element.className ? `.${element.className.split(" ").join(".")}` : ""} “${(element.textContent ?? "").trim().slice(0, 40)}”`;
const modal = document.querySelector("dialog[open]");
const root = modal ?? document.body;

const ids = new Map();
for (const element of document.querySelectorAll("[id]")) {
  if (ids.has(element.id)) complaints.push(`two elements have the id ${element.id}`);
  ids.set(element.id, element);
}
for (const element of document.querySelectorAll("[aria-labelledby], [aria-describedby], [aria-controls], label[for]")) {
  for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
    for (const id of (element.getAttribute(name) ?? "").split(" ").filter(Boolean)) {
      if (!ids.has(id)) complaints.push(`${path(element)}: ${name} names ${id}, which is not there`);
    }
  }
}

const nameOf = (element) => {
  const by = (element.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => ids.get(id)?.textContent ?? "").join(" ").trim();
  const label = element.labels ? [...element.labels].map((one) => one.textContent).join(" ").trim() : "";
  return by || element.getAttribute("aria-label") || label || (element.matches("button, a, summary, [role=tab]") ? element.textContent.trim() : "") || element.getAttribute("title") || "";
};
for (const element of root.querySelectorAll("button, a[href], input, select, textarea, progress, summary, dialog, [role=img], [role=group], [role=tablist], [role=tabpanel], section, nav")) {
  if (shown(element) && !nameOf(element)) complaints.push(`${path(element)} has no name for a screen reader`);
}
for (const image of root.querySelectorAll("img")) if (!image.hasAttribute("alt")) complaints.push(`${path(image)} has no alt`);
for (const svg of root.querySelectorAll("svg")) if (svg.getAttribute("role") !== "img" && svg.getAttribute("aria-hidden") !== "true") complaints.push(`an svg in ${path(svg.parentElement)} is neither named nor hidden`);
for (const table of root.querySelectorAll("table")) {
  if (!table.caption?.textContent && !nameOf(table)) complaints.push("a table has no caption");
  if (!table.querySelector("th[scope=col]")) complaints.push("a table has no column headers");
}
for (const tab of root.querySelectorAll("[role=tab]")) {
  if (!["true", "false"].includes(tab.getAttribute("aria-selected"))) complaints.push(`${path(tab)} does not say whether it is selected`);
}
if (!modal && [...document.querySelectorAll("h1")].filter(shown).length !== 1) complaints.push("there is not exactly one h1");
if (document.documentElement.lang !== "en") complaints.push("the page does not say its language");
let level = 1;
for (const heading of [...document.querySelectorAll("h1, h2, h3, h4")].filter(shown)) {
  const now = Number(heading.tagName[1]);
  if (now > level + 1) complaints.push(`${path(heading)} skips a level`);
  level = now;
}

const canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
const brush = canvas.getContext("2d", { willReadFrequently: true });
const parse = (colour) => {
  brush.clearRect(0, 0, 1, 1);
  brush.fillStyle = colour;
  brush.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
const luminance = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((part) => { const c = part / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m); return (x + 0.05) / (y + 0.05); };
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour[3] > 0) layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
};
let measured = 0;
const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !shown(element) || element.closest(".unseen, .skip, option, noscript, title") || element.closest(":disabled")) continue;
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const back = behind(element);
  const text = element.closest("svg") ? style.fill : style.color;
  const found = ratio(over(parse(text), back), back);
  measured += 1;
  if (found < (large ? 3 : 4.5)) complaints.push(`${path(element)}: contrast ${found.toFixed(2)}`);
}
for (const line of root.querySelectorAll(".plot .lines path")) {
  const found = ratio(parse(getComputedStyle(line).stroke), behind(line));
  if (found < 3) complaints.push(`a line of a chart has contrast ${found.toFixed(2)}`);
}
if (measured < 5) complaints.push(`only ${measured} texts were measured`);
if (document.documentElement.scrollWidth > innerWidth) complaints.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${innerWidth}`);
return complaints;
