// Sessions, and what keeps them on their backends.

import * as api from "./api.js";
import { confirm } from "./dialog.js";
import { duration, h, keyed, number, say, show } from "./dom.js";
import { control, options, select } from "./tabs.js";

/** Rows that are drawn; the filter finds the others. */
const ROWS = 200;

const since = (ms) => (ms < 1_000 ? `${ms} ms` : duration(ms / 1_000));

function table(caption, columns, filterLabel) {
  const body = h("tbody");
  const count = h("p", { class: "muted small pad", role: "status" });
  const filter = h("input", { type: "search", placeholder: filterLabel });
  const heads = columns.map(([name, , kind]) => h("th", { scope: "col", class: kind ?? null }, name));
  const grid = h("div", { class: "scroll" }, h("table", { class: "grid" }, h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, heads, h("th", { scope: "col" }, h("span", { class: "unseen" }, "Action")))), body));
  const draw = (list, id, model) => {
    const words = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const fits = list.filter((one) => {
      const text = columns.map(([, cell]) => cell(one)).join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    say(count, fits.length > ROWS ? `${number(fits.length)} of ${number(list.length)}, the first ${ROWS} are shown` : `${number(fits.length)} of ${number(list.length)}`);
    keyed(body, fits.slice(0, ROWS), id, (one) => h("tr", {}, columns.map(([name, , kind]) => h("td", { "data-label": name, class: kind ?? null })),
      h("td", { class: "actions" }, h("button", { type: "button", class: "quiet", "data-changes": true, "aria-label": `Kill session ${id(one)}`, onclick: () => kill(id(one), one, model) }, "Kill"))),
    (row, one) => {
      columns.forEach(([, cell], at) => say(row.children[at], cell(one)));
      model.guard(row.querySelector("button"));
    });
  };
  return { filter, count, grid, draw };
}

export function sessionsPanel() {
  const columns = [
    ["Session", (one) => String(one.id), "number"], ["User", (one) => one.user], ["Client", (one) => one.client], ["Database", (one) => one.db ?? ""],
    ["State", (one) => `${one.state}, ${since(one.for_ms)}`], ["Stores", (one) => one.leases.join(", ")], ["Pins", (one) => one.pins.join(", ")],
    ["Transaction", (one) => (one.in_transaction ? "open" : "")], ["Epoch", (one) => number(one.epoch), "number"], ["Statements", (one) => number(one.queries), "number"],
  ];
  const parts = table("Sessions", columns, "user, client, state, pin …");
  const state = select([["", "all"], ["transaction", "in a transaction"], ["older", "on an older epoch"], ["pinned", "pinned"]], () => draw());
  let list = [];
  let model = null;
  const chosen = (one) => ({ transaction: one.in_transaction, older: one.epoch < model.status.epoch, pinned: one.pins.length > 0 })[state.value] ?? true;
  const draw = () => model && parts.draw(list.filter(chosen), (one) => one.id, model);
  parts.filter.addEventListener("input", draw);
  const element = h("div", {}, h("div", { class: "toolbar" }, control("Show", state), control("Filter", parts.filter), parts.count), parts.grid);
  const refresh = async (now) => {
    list = await api.sessions();
    model = now;
    draw();
  };
  return { name: "Sessions", element, refresh, every: 3_000 };
}

export function pinsPanel() {
  const columns = [
    ["Session", (one) => String(one.session), "number"], ["User", (one) => one.user], ["Client", (one) => one.client], ["Pin", (one) => one.pin], ["For", (one) => since(one.for_ms)],
  ];
  const parts = table("Pins", columns, "user, client …");
  const pin = select([["", "all"]], () => draw());
  let list = [];
  let model = null;
  const draw = () => model && parts.draw(list.filter((one) => !pin.value || one.pin === pin.value), (one) => one.session, model);
  parts.filter.addEventListener("input", draw);
  const none = h("p", { class: "muted pad" }, "Nothing keeps a session on its backend.");
  const element = h("div", {}, h("div", { class: "toolbar" }, control("Pin", pin), control("Filter", parts.filter), parts.count), parts.grid, none);
  const refresh = async (now) => {
    list = await api.pins();
    model = now;
    options(pin, [["", "all"], ...[...new Set(list.map((one) => one.pin))].sort().map((name) => [name, name])]);
    show(none, list.length === 0);
    show(parts.grid, list.length > 0);
    draw();
  };
  return { name: "Pins", element, refresh, every: 3_000 };
}

function kill(id, one, model) {
  const name = `kill-${id}`;
  const option = (value, text, checked) => h("p", { class: "check" }, h("input", { type: "radio", name: "what", value, id: `${name}-${value}`, checked }), h("label", { for: `${name}-${value}` }, text));
  confirm({
    title: `Kill session ${id}?`,
    text: `${one.user} from ${one.client}.`,
    fields: h("fieldset", {}, h("legend", {}, "What"), option("session", "The session: its client loses the connection, an open transaction is rolled back", true), option("query", "Only the statement that runs", false)),
    button: "Kill",
    danger: true,
    act: async (why, form) => {
      await api.kill(id, { query: form.get("what") === "query", why });
      model.refresh();
    },
  });
}
