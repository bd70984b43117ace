// The top statements by fingerprint. Their text comes from whoever can send one: it is shown as text, whatever it says.

import * as api from "./api.js";
import { attribute, bytes, h, keyed, micros, moment, number, say, show } from "./dom.js";
import { control, options, select } from "./tabs.js";

/** Column, what it sorts by, and its cell. */
const COLUMNS = [
  ["Statement", null, null],
  ["Store", null, (one) => one.stores.map((of) => of.store).join(", ")],
  ["Count", "count", (one) => number(one.calls)],
  ["Time", "time", (one) => micros(one.micros)],
  ["p50", null, (one) => micros(one.p50_micros)],
  ["p95", null, (one) => micros(one.p95_micros)],
  ["p99", "p99", (one) => micros(one.p99_micros)],
  ["Errors", "errors", (one) => number(one.errors + one.refused)],
];

export function panel() {
  let sort = "time";
  let model = null;
  const again = () => refresh(model);
  const group = select([["", "all"]], again);
  const store = select([["", "all"]], again);
  let pause = 0;
  const filter = h("input", { type: "search", placeholder: "text or table", oninput: () => { clearTimeout(pause); pause = setTimeout(again, 250); } });
  const heads = COLUMNS.map(([name, key], at) => h("th", { scope: "col", class: at > 1 ? "number" : null },
    key ? h("button", { type: "button", class: "sort", onclick: () => { sort = key; again(); } }, name) : name));
  const body = h("tbody");
  const none = h("p", { class: "muted pad", hidden: true }, "No statement fits.");
  const element = h("div", {}, h("div", { class: "toolbar" }, control("Group", group), control("Served by", store), control("Filter", filter)),
    h("div", { class: "scroll" }, h("table", { class: "grid statements" }, h("caption", { class: "unseen" }, "Top statements"), h("thead", {}, h("tr", {}, heads)), body)), none);

  async function refresh(now) {
    model = now;
    options(group, [["", "all"], ...model.status.groups.map((one) => [one.name, one.name])]);
    options(store, [["", "all"], ...model.status.stores.map((one) => [one.name, one.name])]);
    COLUMNS.forEach(([, key], at) => attribute(heads[at], "aria-sort", key === sort ? "descending" : null));
    const { on, digests: list } = await api.digests({ sort, limit: 50, group: group.value, store: store.value, filter: filter.value.trim() });
    show(none, list.length === 0);
    say(none, on ? "No statement fits." : "Nothing is counted: `insight: { statements: … }` is 0 in the configuration.");
    keyed(body, list, (one) => one.id, row, update);
  }
  return { name: "Statements", element, refresh, every: 3_000 };
}

function row(one) {
  const more = h("div", { class: "whole", id: `whole-${one.id}`, hidden: true });
  const text = h("code", { class: "text" }, one.text);
  const button = h("button", {
    type: "button", class: "open", "aria-expanded": "false", "aria-controls": `whole-${one.id}`,
    onclick: () => {
      const opened = more.hidden;
      show(more, opened);
      attribute(button, "aria-expanded", String(opened));
      text.classList.toggle("opened", opened);
    },
  }, text);
  return h("tr", {}, h("td", { class: "statement" }, button, more),
    COLUMNS.slice(1).map(([name], at) => h("td", { class: at > 0 ? "number" : null, "data-label": name })));
}

function update(element, one) {
  const cells = element.querySelectorAll("td[data-label]");
  COLUMNS.slice(1).forEach(([, , cell], at) => say(cells[at], cell(one)));
  cells[cells.length - 1].classList.toggle("bad", one.errors + one.refused > 0);
  const on = (of) => [`On ${of.store}`, `${number(of.calls)} times, p50 ${micros(of.p50_micros)}, p95 ${micros(of.p95_micros)}, p99 ${micros(of.p99_micros)}, at most ${micros(of.longest_micros)}, ${number(of.errors)} errors`];
  const facts = [["Kind", one.kind], ["Groups", one.groups.join(", ") || "none"], ["Tables", one.tables.join(", ") || "none"], ["Database", one.database || "none"],
    ["Sent", `${number(one.as_text)} as text, ${number(one.prepared)} prepared`], ["Rows", `${number(one.rows)} read, ${number(one.affected)} changed`], ["Bytes", bytes(one.bytes)],
    ["First seen", moment(one.first_seen_ms)], ["Last seen", moment(one.last_seen_ms)], ...one.stores.map(on)];
  if (one.refused) facts.push(["Refused by the proxy", number(one.refused)]);
  if (one.last_error) facts.push(["Newest error", String(one.last_error)]);
  if (one.example) facts.push(["Example", one.example]);
  const more = element.querySelector(".whole");
  let list = more.querySelector("dl");
  if (!list) more.append(list = h("dl", { class: "facts" }));
  keyed(list, facts, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd", {})), (pair, [, value]) => say(pair.lastElementChild, value));
}
