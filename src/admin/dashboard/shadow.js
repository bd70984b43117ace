// Shadow reads: what the other store answered to the same statements. Texts and values come from clients and tables: they stay text.

import * as api from "./api.js";
import { h, keyed, mark, micros, moment, number, say, show } from "./dom.js";
import { control, options, select } from "./tabs.js";

const VERDICTS = { lag: "good", order: "warn", type: "warn", real: "bad", failed: "bad", too_large: "warn", unreachable: "warn" };
const WORDS = { too_large: "too large" };
const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(2)} %`);

/** Column, and its cell. */
const COLUMNS = [
  ["Compared", (one) => number(one.compared)],
  ["Match", (one) => percent(one.match_rate)],
  ["Real", (one) => number(one.real)],
  ["Type", (one) => number(one.type)],
  ["Order", (one) => number(one.order)],
  ["Lag", (one) => number(one.lag)],
  ["Failed", (one) => number(one.failed)],
  ["Serving p99", (one) => micros(one.serving_times.p99_us)],
  ["Shadow p99", (one) => micros(one.shadow_times.p99_us)],
];

export function panel() {
  let model = null;
  const group = select([["", "all"]], () => refresh(model));
  const tallies = h("div", { class: "pad" });
  const body = h("tbody");
  const grid = h("div", { class: "scroll", hidden: true }, h("table", { class: "grid" }, h("caption", { class: "unseen" }, "Compared statements"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Statement"), COLUMNS.map(([name]) => h("th", { scope: "col", class: "number" }, name)))), body));
  const none = h("p", { class: "muted pad", hidden: true }, "No reads are compared: write `shadow: { sample: 0.05 }` in a group of the configuration.");
  const element = h("div", {}, h("div", { class: "toolbar" }, control("Group", group)), none, tallies, grid);

  async function refresh(now) {
    model = now;
    options(group, [["", "all"], ...model.status.groups.map((one) => [one.name, one.name])]);
    const report = await api.shadow({ group: group.value, limit: 50 });
    show(none, report.groups.length === 0);
    keyed(tallies, report.groups, (one) => one.group, () => h("p", {}), tally);
    show(grid, report.statements.length > 0);
    keyed(body, report.statements, (one) => `${one.group} ${one.id} ${one.database}`, row, update);
  }
  return { name: "Shadow", element, refresh, every: 3_000 };
}

function tally(element, one) {
  const against = one.store ? `against ${one.store}, ${one.sample} of the reads` : "no longer compared";
  say(element, `${one.group} ${against}: ${number(one.compared)} compared, ${percent(one.match_rate)} the same; ${number(one.offered)} in the sample, ${number(one.dropped)} had no room, ${number(one.skipped)} depend on time, session or chance`);
}

function row(one) {
  const last = h("dl", { class: "facts" });
  return h("tr", {}, h("td", { class: "statement" }, h("code", { class: "text opened" }, one.statement || "all others"), last),
    COLUMNS.map(([name]) => h("td", { class: "number", "data-label": name })));
}

function update(element, one) {
  const cells = element.querySelectorAll("td[data-label]");
  COLUMNS.forEach(([, cell], at) => say(cells[at], cell(one)));
  const facts = [["Database", one.database || "none"], ["Last compared", moment(one.last_ms)]];
  if (one.last_place) facts.push(["Newest difference", one.last_place]);
  if (one.last_serving) facts.push([`On ${one.serving}`, one.last_serving]);
  if (one.last_shadow) facts.push([`On ${one.shadow}`, one.last_shadow]);
  const list = element.querySelector("dl");
  keyed(list, facts, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd", {})), (pair, [, value]) => say(pair.lastElementChild, value));
  const verdict = one.last_verdict;
  let badge = element.querySelector(".verdict");
  if (!verdict) return badge?.remove();
  if (!badge) element.querySelector("td").prepend(badge = h("p", { class: "verdict small" }));
  badge.replaceChildren(mark(VERDICTS[verdict] ?? "none"), ` ${WORDS[verdict] ?? verdict}`);
}
