// A card per group: the flag as a large switch, who serves it, its standby, and what an operator may do.

import * as api from "./api.js";
import { confirm, field, open } from "./dialog.js";
import { attribute, count, duration, h, keyed, mark, healthMark, marked, mend, micros, number, put, rate, say, show } from "./dom.js";
import * as flip from "./flip.js";

/** States of a standby that are as they should be. */
const FINE = ["applying", "idle", "ended"];

function waited(held, waiting, authority) {
  const now = waiting ? `held; ${number(waiting)} ${waiting === 1 ? "waits" : "wait"} now` : held ? "held; none waits now" : "go through";
  if (!authority) return now;
  const each = authority.waits ? `, ${micros(authority.waited_us / authority.waits)} each` : "";
  const past = authority.waits ? `${number(authority.waits)} ${authority.waits === 1 ? "has" : "have"} waited${each}` : "none has waited";
  return `${now}; ${past}`;
}

export function render(parent, model) {
  const groups = model.status.groups;
  if (!groups.length) {
    parent.replaceChildren(h("p", { class: "card muted" }, "The configuration file names no groups: every table is on the default store."));
    return;
  }
  keyed(parent, groups, (group) => group.name, (group) => new Card(group, model).element, (element, group) => element.card.update(group, model));
}

class Card {
  constructor(group, model) {
    this.model = model;
    this.name = group.name;
    this.epoch = h("span", { class: "muted small" });
    this.stage = h("span", { class: "badge" });
    this.flagLabel = h("p", { class: "unseen", id: `flag-${group.name}` }, `The flag of ${group.name}`);
    this.flag = h("div", { class: "switch", role: "group", "aria-labelledby": `flag-${group.name}` });
    this.facts = h("dl", { class: "facts" });
    this.notes = h("div", { class: "notes" });
    this.stopped = h("div", { class: "stopped", hidden: true });
    this.buttons = h("div", { class: "buttons left" });
    this.element = h("article", { class: "card group", "aria-label": `Group ${group.name}` },
      h("header", {}, h("h3", {}, group.name), this.stage, this.epoch), this.flagLabel, this.flag, this.notes, this.facts, this.stopped, this.buttons);
    this.element.card = this;
    this.makeButtons();
  }

  makeButtons() {
    this.check = h("button", { type: "button", onclick: () => this.preconditions() }, "Preconditions");
    this.pause = h("button", { type: "button", "data-changes": true, onclick: () => this.pauseOrResume() }, "Pause …");
    this.buttons.append(this.check, this.pause,
      h("button", { type: "button", onclick: () => this.model.openPanel("Readiness", this.name) }, "Readiness"));
  }

  update(group, model) {
    this.model = model;
    this.group = group;
    this.live = model.sample?.groups.find((one) => one.name === group.name) ?? null;
    const standby = group.standby;
    say(this.stage, group.stage);
    say(this.epoch, group.authority ? `authority’s epoch ${group.authority.epoch}` : `epoch ${model.status.epoch}`);
    this.drawSwitch(group, model);
    this.drawNotes(group);
    this.drawFacts(group);
    this.drawStopped(standby);
    show(this.check, Boolean(standby));
    say(this.pause, this.paused() ? "Resume …" : "Pause …");
    for (const button of this.element.querySelectorAll("[data-changes]")) model.guard(button);
  }

  paused() {
    return this.live?.paused ?? this.group.paused ?? false;
  }

  /** The status and the sample are of two moments: what either saw counts, and the card says it once. */
  held() {
    return Boolean(this.live?.held || this.group.authority?.held);
  }

  connection() {
    return this.group.connection;
  }

  drawSwitch(group, model) {
    const targets = new Set([group.connection, ...(group.targets ?? []), ...(group.standby ? [group.standby.store] : [])]);
    const stores = model.status.stores.filter((store) => targets.has(store.name));
    keyed(this.flag, stores, (store) => store.name, (store) => {
      const button = h("button", { type: "button", class: `segment ${model.look(store.name)}`, "data-store": store.name, "data-changes": true,
        onclick: () => this.choose(store.name) },
      h("span", { class: "name" }), h("span", { class: "sub" }), h("span", { class: "sub health" }));
      return button;
    }, (button, store) => {
      const serves = store.name === this.connection();
      attribute(button, "aria-pressed", String(serves));
      marked(button.querySelector(".name"), serves ? "good" : "off", store.name);
      say(button.querySelector(".sub"), this.role(store, serves));
      const live = model.liveStore(store.name);
      const state = live?.state ?? store.state;
      marked(button.querySelector(".health"), healthMark(state), `${state}, ${rate(live?.queries_per_s)} queries/s`);
    });
  }

  role(store, serves) {
    if (serves) return "serves this group";
    const standby = this.group.standby;
    if (standby?.store === store.name) {
      const state = this.live?.standby_state ?? standby.state;
      return `standby, ${state}`;
    }
    return "does not serve it";
  }

  choose(store) {
    if (store === this.connection() || !this.model.mayChange()) return;
    flip.dialog(this.group, store, { onchange: this.model.refresh });
  }

  drawNotes(group) {
    const authority = group.authority;
    const notes = [];
    const cutover = this.live?.cutover ?? authority?.cutover;
    if (cutover) notes.push(["turn", `A cutover is under way: ${cutover}`]);
    if (this.paused()) notes.push(["warn", "Paused: writes of this group wait until somebody resumes it."]);
    else if (this.held()) notes.push(["warn", "Writes are held: they wait for the cutover."]);
    if (authority?.file_says) notes.push(["warn", `The file says ${authority.file_says}, the stores’ rows say ${authority.store}: the rows count.`]);
    if (authority && !authority.settled) notes.push(["warn", `Not settled: ${authority.rows}`]);
    for (const store of authority?.unreachable ?? []) notes.push(["bad", `Cannot be asked: ${store}`]);
    if (authority?.acks === "degraded") notes.push(["warn", "Acknowledgements are degraded: the standby is away and is not waited for. What is written now is on the authority alone."]);
    if (authority?.acks === "refused") notes.push(["bad", "Writes are refused: the standby is away, and the group does not acknowledge without it."]);
    for (const line of authority?.left_behind ?? []) notes.push(["warn", `Left behind: ${line}`]);
    for (const line of authority?.strays ?? []) notes.push(["bad", `A stray writer: ${line}`]);
    if (notes.join() === this.noted) return;
    this.noted = notes.join();
    this.notes.replaceChildren(...notes.map(([kind, text]) => h("p", { class: `note ${kind}` }, mark(kind), h("span", {}, text))));
  }

  drawFacts(group) {
    const { authority, standby } = group;
    const facts = [];
    if (authority) facts.push(["Authority", `${authority.store}, ${authority.settled ? "settled" : "not settled"}`]);
    if (standby) {
      const entries = this.live?.lag_entries ?? standby.lag_entries;
      const seconds = this.live?.lag_seconds ?? standby.lag_seconds;
      facts.push(["Standby", `${standby.store}, ${this.live?.standby_state ?? standby.state}`],
        ["Lag", `${count(entries, "transaction")}, ${duration(seconds)}`],
        ["Applied", `${count(standby.transactions, "transaction")}, ${count(standby.rows, "row")}`]);
    } else {
      facts.push(["Standby", "none: the flag moves at once"]);
    }
    if (authority) {
      const acks = this.live?.acks ?? authority.acks;
      facts.push(["Acknowledged by", authority.acknowledged_alone ? `${acks} (${number(authority.acknowledged_alone)} by the authority alone)` : acks]);
    }
    const waiting = this.live?.waiting ?? group.waiting ?? 0;
    if (authority || waiting || this.paused()) facts.push(["Writes", waited(this.held() || this.paused(), waiting, authority)]);
    if (authority?.seals) facts.push(["Refused by a seal", number(authority.seals)]);
    facts.push(["Tables", group.tables.join(", ")]);
    if (group.references?.length) facts.push(["References", group.references.join(", ")]);
    keyed(this.facts, facts, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd", {})), (element, [, value]) => {
      say(element.lastElementChild, value);
      element.lastElementChild.title = value;
    });
  }

  drawStopped(standby) {
    const is = standby && !FINE.includes(standby.state) && (standby.reason || standby.state === "stopped");
    show(this.stopped, Boolean(is));
    const now = is ? JSON.stringify([standby.state, standby.reason, standby.transaction, standby.remedy]) : "";
    if (now === this.stoppedAs) return;
    this.stoppedAs = now;
    if (!is) return this.stopped.replaceChildren();
    const stopped = standby.state === "stopped";
    const buttons = stopped ? [
      h("button", { type: "button", "data-changes": true, onclick: () => this.retry() }, "Retry"),
      standby.skippable && h("button", { type: "button", "data-changes": true, onclick: () => this.skip(standby) }, "Pass it over …"),
    ] : [];
    put(this.stopped,
      h("p", { class: stopped ? "bad" : "warn" }, mark(stopped ? "bad" : "warn"), h("strong", {}, `The standby ${stopped ? "is stopped" : standby.state}`)),
      standby.reason && h("p", { class: "reason" }, standby.reason),
      standby.transaction && h("p", { class: "small" }, "Transaction ", h("code", {}, standby.transaction)),
      ...(standby.remedy ?? "").split("\n").filter(Boolean).map((line) => mend(line.replace(/`switchover standby retry`/, `\`switchover standby retry ${this.name}\``))),
      h("div", { class: "buttons left" }, buttons));
  }

  async preconditions() {
    const to = this.group.standby?.store;
    const body = h("div", { role: "status" }, h("p", { class: "muted" }, "Looking at both stores …"));
    const dialog = open(`Can ${this.name} move to ${to}?`, h("div", {}, body,
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Close"))), { wide: true });
    body.replaceChildren(...await flip.preconditions(this.name, to));
  }

  pauseOrResume() {
    const paused = this.paused();
    confirm({
      title: paused ? `Resume ${this.name}?` : `Pause ${this.name}?`,
      text: paused ? "What waits goes on, on the store that the flag names." : `New writes of ${this.name} wait until somebody resumes the group; reads go on. Those that wait for too long get an error that a retry mends. Other groups feel nothing.`,
      button: paused ? "Resume" : "Pause",
      act: async (why) => {
        await (paused ? api.resume : api.pause)(this.name, why);
        this.model.refresh();
      },
    });
  }

  retry() {
    confirm({
      title: `Let the standby of ${this.name} try again?`,
      text: "It applies the transaction that it is stopped by once more. Mend the rows first, else it stops again.",
      button: "Retry",
      act: async (why) => {
        await api.standby(this.name, { action: "retry", why });
        this.model.refresh();
      },
    });
  }

  skip(standby) {
    const reason = field("Reason", { name: "reason", required: true, hint: "It is kept in switchover.skipped on the standby." });
    confirm({
      title: `Pass a transaction of ${this.name} over?`,
      text: `The rows of transaction ${standby.transaction} are not applied: the standby differs from the authority by them from then on, until somebody mends it.`,
      button: "Pass it over",
      danger: true,
      why: reason,
      act: async (text) => {
        await api.standby(this.name, { action: "skip", transaction: standby.transaction, reason: text });
        this.model.refresh();
      },
    });
  }
}
