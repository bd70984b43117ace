// Moving a flag: what will happen, what is in the way, why; then the steps as they happen, and how it ended.

import * as api from "./api.js";
import { field, open } from "./dialog.js";
import { announce, clock, h, mark, problems, say, show } from "./dom.js";

/** Names of a cutover's steps (docs/standby.md), and what each does. */
export const STEPS = {
  look: "who serves is read from both stores, and the preconditions are looked at",
  intent: "the cutover is written down on the old authority",
  hold: "new writes of the group wait; reads go on",
  seal: "the old authority refuses every writer",
  "catch up": "the standby applies everything up to the end of the old authority’s log",
  "reverse start": "from where the old authority will follow",
  open: "the decision: the new authority’s row",
  release: "what waited goes on, on the new authority",
};

/** A step as its event says it: how long it took, its name, and what was found. */
export function said(event) {
  const [, took, name, note] = /^\s*(?:([\d.]+ ms)\s+)?([^:]+):?\s*(.*)$/.exec(event.what) ?? [null, null, event.what, ""];
  return { took, name: name.trim(), note };
}

/** The flip that is under way in this page, so that events of kind `step` find it. */
let current = null;

/** An event from the stream. */
export function heard(event) {
  if (current && event.kind === "step" && event.subject === current.group) current.step(event);
}

export function dialog(group, to, { onchange }) {
  current = new Flip(group, to, onchange);
}

class Flip {
  constructor(group, to, onchange) {
    Object.assign(this, { group: group.name, from: group.connection, to, onchange, busy: false, done: false, begun: 0, seen: new Set() });
    this.kept = Boolean(group.standby);
    this.checks = h("div", { class: "checks", role: "status" });
    this.why = field("Why", { name: "why", hint: "It stands in the events, in the log and in the history of flips." });
    this.force = h("input", { type: "checkbox", id: "flip-force", name: "force", "aria-describedby": "flip-force-warning" });
    this.forceWarning = h("p", { id: "flip-force-warning", class: "problem", hidden: true },
      this.kept
        ? "Preconditions that do not hold are passed over. If the authority cannot be reached it is given up, and what it has alone is settled when it returns. Who forced it, and past what, is kept."
        : "Views, triggers, routines or foreign keys that tie the group to other tables are left behind. Who forced it is kept.");
    this.force.addEventListener("change", () => show(this.forceWarning, this.force.checked));
    this.steps = h("ol", { class: "steps", "aria-live": "polite", "aria-label": "Steps" });
    this.outcome = h("div", { class: "outcome" });
    this.trouble = h("div", { class: "trouble", role: "alert", hidden: true });
    this.cancel = h("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel");
    this.go = h("button", { type: "submit", class: "primary" }, `Move to ${to}`);
    this.abort = h("button", { type: "button", class: "danger", hidden: true, onclick: () => this.giveUp() }, "Abort");
    this.asked = h("div", {}, this.what(group), this.checks, this.why.element,
      h("p", { class: "check" }, this.force, h("label", { for: "flip-force" }, "Force: move even if something is in the way")),
      this.forceWarning);
    const form = h("form", { method: "dialog" }, this.asked, this.steps, this.outcome, this.trouble,
      h("div", { class: "buttons" }, this.abort, this.cancel, this.go));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.done) this.dialog.close();
      else this.move();
    });
    this.dialog = open(`Move ${group.name} to ${to}?`, form, { wide: true, onclose: () => { if (current === this) current = null; } });
    this.why.input.focus();
    if (this.kept) this.dryRun();
  }

  what(group) {
    const tables = group.tables.length === 1 ? group.tables[0] : `${group.tables.length} patterns of tables`;
    const lines = this.kept
      ? [`${this.to} becomes the authority of ${this.group} (${tables}) by a cutover. New writes wait for a moment, reads go on, and no client sees an error.`,
        `Whatever fails before the decision takes everything back, and ${this.from} serves on. Afterwards ${this.from} follows as the standby.`]
      : [`New statements on ${this.group} (${tables}) go to ${this.to} at once; transactions that are open end on ${this.from}.`,
        `The flag moves queries, not rows: ${this.to} must have the data already.`];
    return lines.map((line) => h("p", {}, line));
  }

  async dryRun() {
    this.checks.replaceChildren(h("p", { class: "muted" }, "Looking at the preconditions …"));
    this.checks.replaceChildren(...await preconditions(this.group, this.to));
  }

  async move() {
    if (this.busy) return;
    this.busy = this.go.disabled = true;
    this.begun = performance.now();
    show(this.trouble, false);
    show(this.asked, false);
    this.steps.replaceChildren();
    this.outcome.replaceChildren();
    say(this.dialog.querySelector("h2"), `Moving ${this.group} to ${this.to}`);
    say(this.cancel, "Close (it goes on)");
    show(this.abort, this.kept);
    this.abort.disabled = false;
    this.cancel.focus();
    const timer = setInterval(() => say(this.go, `Moving … ${((performance.now() - this.begun) / 1_000).toFixed(1)} s`), 100);
    try {
      const flagged = await api.flag(this.group, { store: this.to, why: this.why.input.value.trim() || null, force: this.force.checked });
      this.moved(flagged);
    } catch (error) {
      await this.refused(error);
    } finally {
      clearInterval(timer);
      show(this.abort, false);
      this.busy = this.go.disabled = false;
      this.onchange();
    }
  }

  /** Before its decision a cutover goes back as if it had not begun; what became of it is what `move` hears. */
  async giveUp() {
    this.abort.disabled = true;
    try {
      await api.abort(this.group, this.why.input.value.trim() || null);
    } catch (error) {
      if (!this.busy) return;
      this.trouble.replaceChildren(problems(error.message));
      show(this.trouble, true);
      this.abort.disabled = false;
    }
  }

  step(event) {
    // (a dry run has its look as well)
    if (!this.begun || this.seen.has(event.id)) return;
    this.seen.add(event.id);
    const { took, name, note } = said(event);
    const words = note ? `${name}: ${note}` : name;
    this.steps.append(h("li", {}, mark(event.outcome === "failed" || event.outcome === "refused" ? "bad" : "good"),
      h("span", {}, words, STEPS[name] && h("span", { class: "muted small more" }, STEPS[name])),
      h("span", { class: "muted small" }, took ?? clock(event.at_ms))));
    this.steps.lastElementChild.scrollIntoView({ block: "nearest" });
  }

  moved(flagged) {
    this.done = true;
    const took = ((performance.now() - this.begun) / 1_000).toFixed(1);
    const text = flagged.changed
      ? `${flagged.to} serves ${flagged.group} since epoch ${flagged.epoch}; it took ${took} s.`
      : `${flagged.to} served ${flagged.group} already.`;
    say(this.dialog.querySelector("h2"), flagged.changed ? `${flagged.group}: ${flagged.from} → ${flagged.to}` : flagged.group);
    const notes = flagged.notes?.length ? h("details", { open: this.steps.childElementCount ? null : true },
      h("summary", {}, "What the proxy says"), h("ul", {}, flagged.notes.map((note) => h("li", {}, note)))) : null;
    this.outcome.replaceChildren(h("p", { class: "good" }, mark("good"), text), ...(notes ? [notes] : []));
    this.cancel.hidden = true;
    say(this.go, "Done");
    this.go.disabled = false;
    this.go.focus();
    announce(text);
  }

  /** Who serves is what the proxy says afterwards: a cutover that failed goes back, or on, by itself. */
  async refused(error) {
    let group = null;
    for (let look = 0; look < 6; look += 1) {
      group = await api.status().then((status) => status.groups.find((one) => one.name === this.group)).catch(() => null);
      if (group && !underWay(group)) break;
      await new Promise((done) => setTimeout(done, 500));
    }
    const known = error.status !== 0 && group && !underWay(group);
    const moved = known && group.connection === this.to;
    const title = !known ? `Not known yet whether ${this.group} moved` : moved ? `${this.group} moved to ${this.to} all the same` : `${this.group} was not moved`;
    say(this.dialog.querySelector("h2"), title);
    const lead = known ? `${group.connection} serves it.` : "What became of it shows in the group and in the events.";
    this.trouble.replaceChildren(h("p", {}, lead), problems(error.message));
    show(this.trouble, true);
    show(this.asked, !moved);
    this.checks.replaceChildren();
    this.done = moved;
    say(this.cancel, "Close");
    say(this.go, moved ? "Done" : "Try again");
    announce(title);
  }
}

const underWay = (group) => Boolean(group.authority?.cutover) || group.authority?.settled === false;

/** What a dry run says, as elements. */
export async function preconditions(group, to) {
  try {
    const flagged = await api.flag(group, { store: to, why: null, force: false, dry_run: true });
    return [h("p", { class: "good" }, mark("good"), `Nothing is in the way of moving ${group} to ${to}.`),
      h("ul", { class: "small" }, (flagged.notes ?? []).map((note) => h("li", {}, note)))];
  } catch (error) {
    return [h("p", { class: "bad" }, mark("bad"), [400, 409].includes(error.status) ? `In the way of moving ${group} to ${to}:` : "The preconditions could not be looked at:"),
      problems(error.message)];
  }
}
