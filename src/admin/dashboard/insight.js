// What would be if the flag moved (readiness), where a statement would go (explain), and the configuration in force.

import * as api from "./api.js";
import { confirm } from "./dialog.js";
import { h, keyed, mark, number, problems, put, say, show } from "./dom.js";
import { control, options, select } from "./tabs.js";

const VERDICTS = { same: "good", ready: "good", refused: "bad", fails: "bad", untested: "warn" };

const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

export function readinessPanel() {
  const group = select([["", ""]], () => look());
  const button = h("button", { type: "button", onclick: () => look() }, "Look again");
  const lead = h("div", { class: "pad", role: "status" }, h("p", { class: "muted" }, "For each statement that was seen: what would happen if the flag moved now."));
  const body = h("tbody");
  const grid = h("div", { class: "scroll", hidden: true }, h("table", { class: "grid" }, h("caption", { class: "unseen" }, "Readiness per statement"),
    h("thead", {}, h("tr", {}, ["Verdict", "Statement", "Executions", "Why"].map((name) => h("th", { scope: "col", class: name === "Executions" ? "number" : null }, name)))), body));
  const element = h("div", {}, h("div", { class: "toolbar" }, control("Group", group), button), lead, grid);
  let asked = null;
  let wanted = null;

  async function look() {
    if (!group.value) return;
    asked = group.value;
    wanted = null;
    button.disabled = true;
    lead.replaceChildren(h("p", { class: "muted" }, `Asking about ${asked} …`));
    try {
      draw(await api.readiness(asked));
    } catch (error) {
      show(grid, false);
      lead.replaceChildren(problems(error.message));
    } finally {
      button.disabled = false;
    }
  }

  function draw(report) {
    const list = report.statements;
    const tally = ([verdict, part]) => h("span", { class: "tally" }, mark(VERDICTS[verdict] ?? "none"), ` ${number(part.statements)} ${verdict}, ${percent(part.share)} of executions`);
    put(lead, h("p", {}, h("strong", {}, `If ${report.group} moved from ${report.from} to ${report.to} now:`)),
      h("p", { class: "tallies" }, Object.entries(report.summary).map(tally), list.length === 0 && "no statement on its tables was seen yet."),
      h("p", { class: "muted small" }, `${number(report.elsewhere)} statements have nothing to do with it${report.dropped ? `; ${number(report.dropped)} made room for others, and are not judged` : ""}.`),
      report.notes.map((note) => h("p", { class: "small" }, note)));
    show(grid, list.length > 0);
    keyed(body, list, (one) => `${one.id} ${one.database} ${one.verdict} ${one.reason}`, (one) => h("tr", {}, h("td", { "data-label": "Verdict" }, mark(VERDICTS[one.verdict] ?? "none"), ` ${one.verdict}`),
      h("td", { class: "statement" }, h("code", { class: "text opened" }, one.text)), h("td", { class: "number", "data-label": "Executions" }, number(one.calls)),
      h("td", { "data-label": "Why" }, one.code && `${one.code}: `, one.reason, one.remedies.length > 0 && h("ul", { class: "small" }, one.remedies.map((line) => h("li", { class: "mend" }, line))))));
  }

  return {
    name: "Readiness", element, every: 0,
    refresh: async (model) => {
      options(group, model.status.groups.length ? model.status.groups.map((one) => [one.name, one.name]) : [["", "none"]]);
      if (wanted) group.value = wanted;
      if (asked !== group.value || wanted) await look();
    },
    want: (name) => { wanted = name; },
  };
}

export function explainPanel() {
  const sql = h("textarea", { rows: 3, spellcheck: false, required: true });
  const db = h("input", { autocomplete: "off", spellcheck: false });
  const user = h("input", { autocomplete: "off", spellcheck: false });
  const answer = h("div", { class: "pad", role: "status" });
  const form = h("form", { class: "explain pad" }, control("Statement", sql), h("div", { class: "toolbar" }, control("Database", db), control("User", user), h("button", { type: "submit", class: "primary" }, "Explain")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const explained = await api.explain({ sql: sql.value, db: db.value || null, user: user.value || null });
      answer.replaceChildren(h("p", {}, h("strong", {}, explained.store ? `It would go to ${explained.store}.` : "It would be refused.")), h("pre", {}, explained.text));
    } catch (error) {
      answer.replaceChildren(problems(error.message));
    }
  });
  return { name: "Explain", element: h("div", {}, form, answer), every: 0, refresh: async () => {} };
}

export function configPanel() {
  const waits = h("div", { class: "pad" });
  const filter = h("input", { type: "search", oninput: () => draw() });
  const body = h("tbody");
  let list = [];
  let model = null;
  const reload = h("button", { type: "button", "data-changes": true, onclick: () => confirm({
    title: "Read the file again?", text: "The proxy follows a saved file by itself. A file that does not check changes nothing.", button: "Reload",
    act: async (why) => {
      await api.reload(why);
      model.refresh();
    },
  }) }, "Reload …");
  const path = h("code", { class: "small" });
  const element = h("div", {}, h("div", { class: "toolbar" }, control("Filter", filter), reload, path), waits,
    h("div", { class: "scroll" }, h("table", { class: "grid" }, h("caption", { class: "unseen" }, "Configuration in force"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Key"), h("th", { scope: "col" }, "Value"))), body)));
  function draw() {
    const words = filter.value.trim().toLowerCase();
    keyed(body, list.filter((one) => `${one.key} ${one.value}`.toLowerCase().includes(words)), (one) => one.key,
      (one) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, one.key)), h("td", { "data-label": "Value" }, h("code"))),
      (row, one) => say(row.querySelector("td code"), String(one.value)));
  }
  return {
    name: "Configuration", element, every: 10_000,
    refresh: async (now) => {
      model = now;
      say(path, model.status.config);
      model.guard(reload);
      const [all, differs] = await Promise.all([api.config(), api.configDiff()]);
      list = all;
      waits.replaceChildren(...(differs.length ? [h("p", {}, "The file says something else than what is in force:"),
        h("ul", {}, differs.map((one) => h("li", {}, h("code", {}, one.key), `: ${one.in_force ?? "–"} → ${one.file ?? "–"}`)))] : [h("p", { class: "muted small" }, "The file says what is in force.")]));
      draw();
    },
  };
}
