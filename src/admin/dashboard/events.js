// What happened, the newest first: changes with who and why, flips, steps of cutovers, health, configuration, standbys.

import { h, keyed, moment, show } from "./dom.js";
import { control, select } from "./tabs.js";

const KINDS = ["action", "flip", "step", "health", "config", "standby", "shadow"];
const ROWS = 200;

export function panel() {
  let model = null;
  const kind = select([["", "all"], ...KINDS.map((name) => [name, name])], () => draw());
  const filter = h("input", { type: "search", placeholder: "group, store, person …", oninput: () => draw() });
  const list = h("ol", { class: "events", "aria-label": "Events, the newest first" });
  const none = h("p", { class: "muted pad" }, "Nothing has happened.");
  const element = h("div", {}, h("div", { class: "toolbar" }, control("Kind", kind), control("Filter", filter)), list, none);

  function draw() {
    if (!model) return;
    const words = filter.value.trim().toLowerCase();
    const fits = model.events.filter((one) => (!kind.value || one.kind === kind.value) && (!words || JSON.stringify(Object.values(one)).toLowerCase().includes(words)));
    show(none, fits.length === 0);
    keyed(list, fits.slice(0, ROWS), (one) => one.id, item);
  }
  const refresh = async (now) => {
    model = now;
    draw();
  };
  return { name: "Events", element, refresh, every: 0, draw };
}

function item(one) {
  const bad = one.outcome === "failed" || one.outcome === "refused";
  const by = one.by ? `by ${one.by}${one.from ? ` from ${one.from}` : ""} (${one.surface})` : one.surface;
  // of what was not done, `after` says why
  // of what somebody changed `before` and `after` are states; of what was not done, or happened, `after` says why
  const asked = !bad && ["action", "flip"].includes(one.kind);
  const moved = `${one.before || "–"} → ${one.after || "–"}`;
  const change = !asked ? one.before && `before: ${one.before}` : (one.before || one.after) && !one.what.includes(moved) ? moved : null;
  const [first, ...rest] = `${one.what.trim()}${!asked && one.after ? `\n${one.after}` : ""}`.split("\n");
  return h("li", {}, h("time", { class: "muted small", datetime: new Date(one.at_ms).toISOString() }, moment(one.at_ms)), h("span", { class: `badge kind-${KINDS.includes(one.kind) ? one.kind : "other"}` }, one.kind),
    h("div", { class: "grow" }, h("p", {}, one.subject && h("strong", {}, `${one.subject} `), first, bad && h("span", { class: "bad" }, ` ${one.outcome}`)),
      rest.length > 0 && h("pre", { class: "small" }, rest.join("\n")),
      h("p", { class: "muted small" }, [change, by, one.why && `“${one.why}”`].filter(Boolean).join(" · "))));
}
