// The stores: whether each is healthy and why not, and what it does at this moment.

import { h, healthMark, keyed, marked, micros, number, rate, say } from "./dom.js";

const COLUMNS = ["Store", "Health", "Queries/s", "Errors/s", "p50", "p95", "p99", "In use", "Idle"];

export function render(parent, model) {
  if (!parent.firstElementChild) {
    const heads = COLUMNS.map((name, at) => h("th", { scope: "col", class: at > 1 ? "number" : null }, name));
    parent.append(h("table", { class: "grid stores", "aria-label": "Stores" }, h("tbody", { "data-key": "" }, h("tr", { class: "heads" }, heads))));
  }
  const stores = [{ name: "" }, ...model.status.stores];
  keyed(parent.querySelector("table"), stores, (store) => store.name, (store) => rows(store, model), (element, store) => store.name && update(element, store, model));
}

function rows(store, model) {
  const cells = COLUMNS.slice(1).map((name, at) => h("td", { class: at > 0 ? "number" : "health", "data-label": name }));
  return h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, h("span", { class: `swatch ${model.look(store.name)}`, "aria-hidden": "true" }), store.name), cells),
    h("tr", { class: "about small" }, h("td", { colspan: COLUMNS.length }, h("span", { class: "reason" }), h("span", { class: "muted server" }))));
}

function update(element, store, model) {
  const live = model.liveStore(store.name);
  const state = live?.state ?? store.state;
  // (MariaDB greets with a prefix for old replicas)
  const version = store.version.replace(/^5\.5\.5-/, "");
  const engine = version.includes(store.engine) ? version : `${store.engine} ${version}`;
  const failed = store.connect_errors ? `${number(store.connect_errors)} connections failed` : null;
  say(element.querySelector(".server"), [store.name === model.status.default ? "default" : null, engine.trim() || null, store.addresses.join(", "), failed].filter(Boolean).join(" · "));
  const reason = live?.reason ?? store.reason;
  say(element.querySelector(".reason"), reason ?? "");
  const [health, queries, errors, p50, p95, p99, used, idle] = element.querySelectorAll("td[data-label]");
  marked(health, healthMark(state), state);
  say(queries, rate(live?.queries_per_s));
  say(errors, rate(live?.errors_per_s));
  errors.classList.toggle("bad", (live?.errors_per_s ?? 0) > 0);
  const latency = live?.queries_per_s > 0 ? live : null;
  say(p50, micros(latency?.p50_us));
  say(p95, micros(latency?.p95_us));
  say(p99, micros(latency?.p99_us));
  say(used, number(live?.leases ?? store.leases));
  say(idle, number(live?.idle ?? store.idle));
}
