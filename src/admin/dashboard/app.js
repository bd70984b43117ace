// The dashboard's beginning: signs in, keeps what the proxy says, and draws it.
//
// Files that the proxy serves beside index.html, style.css and favicon.svg: api.js app.js charts.js dialog.js dom.js events.js
// flip.js groups.js insight.js jobs.js sessions.js shadow.js statements.js stores.js tabs.js
//
// Once a second a sample comes over the stream; the status is asked every few seconds, and at once when an event came.
// The policy of the page allows no script, style or request but the proxy's own, and nothing here makes HTML of text.

import * as api from "./api.js";
import { Chart, choice, History } from "./charts.js";
import { $, ago, announce, attribute, count, duration, h, keyed, mark, marked, micros, number, problems, rate, say, show } from "./dom.js";
import * as events from "./events.js";
import * as flip from "./flip.js";
import * as groups from "./groups.js";
import { configPanel, explainPanel, readinessPanel } from "./insight.js";
import * as jobs from "./jobs.js";
import { pinsPanel, sessionsPanel } from "./sessions.js";
import * as shadow from "./shadow.js";
import * as statements from "./statements.js";
import * as stores from "./stores.js";
import { Tabs } from "./tabs.js";

/** Milliseconds between two looks at the status when nothing happens. */
const STATUS = 3_000;
/** Looks that vary by store, told apart without colour too. */
const LOOKS = 6;
/** Events that the page keeps. */
const EVENTS = 500;

const READER = "Your role is reader: an operator can do this.";

/** What the page knows. */
class Model {
  constructor(me) {
    Object.assign(this, { me, status: null, sample: null, jobs: [], events: [], history: new History(), refresh: () => {}, openPanel: () => {} });
  }

  /** The class of a store's line, swatch and segment. */
  look(store) {
    const at = this.status.stores.findIndex((one) => one.name === store);
    return `s${Math.max(0, at) % LOOKS}`;
  }

  liveStore(name) {
    return this.sample?.stores.find((one) => one.name === name) ?? null;
  }

  mayChange() {
    return this.me.role === "operator";
  }

  /** A button that changes something: switched off for a reader, with the reason. */
  guard(button) {
    const off = !this.mayChange();
    if (button.disabled !== off) button.disabled = off;
    attribute(button, "title", off ? READER : null);
    attribute(button, "aria-describedby", off ? "reader-note" : null);
  }

  remember(list) {
    const known = new Set(this.events.map((one) => one.id));
    const fresh = list.filter((one) => !known.has(one.id));
    if (!fresh.length) return;
    this.events = [...fresh, ...this.events].sort((a, b) => b.id - a.id).slice(0, EVENTS);
    for (const event of fresh) if (event.kind === "flip" && event.outcome !== "refused" && event.outcome !== "failed") this.history.flip(event);
  }
}

/** The page of somebody who is signed in. */
class Page {
  constructor(me) {
    this.model = new Model(me);
    this.model.refresh = () => this.soon(50);
    this.timer = 0;
    this.link = "open";
    this.percentile = "p99";
    say($("who"), `${me.user} (${me.role})`);
    show($("reader-note"), me.role !== "operator");
  }

  async start() {
    await this.look();
    this.makeCharts();
    this.eventsPanel = events.panel();
    this.readiness = readinessPanel();
    const panels = [this.eventsPanel, statements.panel(), sessionsPanel(), pinsPanel(), this.readiness, shadow.panel(), explainPanel(), configPanel()];
    this.tabs = new Tabs($("tabs"), $("panels"), panels, this.model);
    this.model.openPanel = (name, group) => {
      this.readiness.want(group);
      this.tabs.open(name);
    };
    this.catchUp();
    // the proxy remembers five minutes; without them the charts begin now
    for (const sample of await api.samples().catch(() => [])) this.model.history.add(sample);
    this.model.sample = this.model.history.samples.at(-1) ?? null;
    this.draw();
    this.drawCharts();
    this.live = new api.Live({
      onsample: (sample) => this.sample(sample),
      onevent: (event) => this.event(event),
      onstate: (state) => this.linked(state),
    });
    this.again = () => { if (!document.hidden) this.soon(0); };
    document.addEventListener("visibilitychange", this.again);
  }

  end() {
    this.ended = true;
    this.live?.end();
    this.tabs?.end();
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.again);
    for (const id of ["groups", "stores", "charts", "jobs", "tabs", "panels", "banners"]) $(id).replaceChildren();
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  }

  makeCharts() {
    this.queries = new Chart({ title: "Queries per second", format: rate, least: 5 });
    const percentile = choice("Percentile of latency", ["p50", "p95", "p99"], this.percentile, (name) => {
      this.percentile = name;
      this.drawCharts();
    });
    this.latency = new Chart({ title: "Latency", format: micros, least: 500, controls: percentile });
    $("charts").append(this.queries.element, this.latency.element);
    this.lag = new Chart({ title: "Lag of standbys, transactions", format: number, least: 4 });
  }

  /** Asks for the status in `ms`, and then every few seconds. */
  soon(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look().catch(() => {}), ms);
  }

  async look() {
    clearTimeout(this.timer);
    try {
      const [status, running] = await Promise.all([api.status(), api.jobs()]);
      if (this.ended) return;
      this.model.status = status;
      this.model.jobs = running;
      this.draw();
    } finally {
      if (!this.ended) this.soon(this.model.jobs.length ? 1_000 : STATUS);
    }
  }

  /** The events that the stream did not bring. */
  async catchUp() {
    const newest = this.model.events[0]?.id;
    try {
      const list = await api.events({ after: newest, limit: 200 });
      this.model.remember(list);
      for (const event of list) flip.heard(event);
      this.eventsPanel.draw();
      this.drawCharts();
    } catch {
      // the stream's state says that the proxy is away
    }
  }

  sample(sample) {
    this.model.sample = sample;
    this.model.history.add(sample);
    if (document.hidden) return;
    this.draw();
    this.drawCharts();
  }

  event(event) {
    this.model.remember([event]);
    flip.heard(event);
    this.eventsPanel.draw();
    if (event.kind === "flip") announce(`${event.subject}: ${event.what}`);
    this.soon(50);
  }

  linked(state) {
    // at each try: who is not signed in any more is told so
    if (state === "lost") this.soon(0);
    if (state === this.link && $("link").childElementCount) return;
    const was = this.link;
    this.link = state;
    if (state === "open") marked($("link"), "good", "live");
    else marked($("link"), "bad", "connection lost");
    this.drawBanners();
    if (state === "open" && was === "lost") {
      announce("Connected to the proxy again");
      this.soon(0);
      this.catchUp();
    }
  }

  draw() {
    const { model } = this;
    if (!model.status || this.ended) return;
    const { status } = model;
    say($("instance"), `${status.version}, ${status.state} for ${duration(status.uptime_seconds)}, epoch ${model.sample?.epoch ?? status.epoch}`);
    $("instance").title = `pid ${status.pid}, ${status.config}, listens on ${status.listen.join(", ")}, pool ${status.pool}, ${status.workers} workers`;
    const open = model.sample?.sessions ?? status.sessions;
    const older = status.sessions.on_older_epoch;
    say($("counters"), `${count(open.open, "session")}, ${number(open.in_transaction)} in a transaction${older ? `, ${number(older)} of them on an older epoch` : ""} · ${count(status.totals.queries, "statement")}, ${number(status.totals.refused)} refused`);
    groups.render($("groups"), model);
    stores.render($("stores"), model);
    jobs.render($("jobs-section"), $("jobs"), model);
    this.drawBanners();
    document.title = `${status.groups.map((group) => `${group.name} → ${group.connection}`).join(", ") || "Switchover"}${this.link === "lost" ? " (connection lost)" : ""}`;
  }

  drawCharts() {
    const { model } = this;
    const now = model.sample?.at_ms;
    if (!now || !model.status) return;
    const of = (pick) => model.status.stores.map((store) => model.history.line(store.name, model.look(store.name), (sample) => {
      const found = sample.stores.find((one) => one.name === store.name);
      return found ? pick(found) : null;
    }));
    const flips = model.history.flips;
    this.queries.show(of((store) => store.queries_per_s), now, flips);
    this.latency.show(of((store) => (store.queries_per_s > 0 ? store[`${this.percentile}_us`] : null)), now, flips);
    const kept = model.status.groups.filter((group) => group.standby);
    if (kept.length && !this.lag.element.isConnected) $("charts").append(this.lag.element);
    if (!kept.length) this.lag.element.remove();
    this.lag.show(kept.map((group, at) => model.history.line(group.name, `g${at % 4}`, (sample) => sample.groups.find((one) => one.name === group.name)?.lag_entries)), now, flips);
  }

  drawBanners() {
    const { status } = this.model;
    const banners = [];
    if (this.link === "lost") banners.push(["link", "bad", "Connection to the proxy lost: what you see is old. It is tried again by itself.", null]);
    if (status?.state === "draining") banners.push(["draining", "warn", "The proxy is draining: it takes no new clients, and ends when the last has left.", null]);
    if (status?.config_error) {
      const text = status.config_error.problems.map(problemText).join("\n");
      banners.push(["config", "bad", `The configuration file was refused ${ago(status.config_error.at_ms)}; what was in force stays so.`, text]);
    }
    if (status?.restart_needed.length) banners.push(["restart", "warn", "Changes of the file wait for a restart:", status.restart_needed.join("\n")]);
    keyed($("banners"), banners, ([name]) => name, ([, kind]) => h("div", { class: `banner ${kind}`, role: kind === "bad" ? "alert" : "status" }, mark(kind), h("div", {}, h("p"), h("div"))),
      (element, [, , text, more]) => {
        say(element.querySelector("p"), text);
        const list = element.querySelector(":scope > div > div");
        if (list.dataset.is !== String(more)) {
          list.dataset.is = String(more);
          list.replaceChildren(...(more ? [problems(more)] : []));
        }
      });
  }
}

/** One problem of the configuration file, as its object says it. */
function problemText(problem) {
  if (typeof problem === "string") return problem;
  const where = [problem.file, problem.line, problem.column].filter((part) => part !== null && part !== undefined).join(":");
  const message = problem.message ?? problem.text ?? JSON.stringify(problem);
  return `${where ? `${where}: ` : ""}${message}${problem.help ? `\nhelp: ${problem.help}` : ""}`;
}

let page = null;

async function enter(me) {
  page?.end();
  page = new Page(me);
  try {
    await page.start();
  } catch (error) {
    page.end();
    page = null;
    leave(error.status === 401 ? null : error.message);
    return;
  }
  show($("login"), false);
  show($("app"), true);
  $("main").focus({ preventScroll: true });
}

function leave(message = null) {
  page?.end();
  page = null;
  document.title = "Switchover";
  show($("app"), false);
  show($("login"), true);
  say($("login-error"), message ?? "");
  show($("login-error"), Boolean(message));
  $("login-user").focus();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("login-form").querySelector("button");
  button.disabled = true;
  try {
    const me = await api.login($("login-user").value, $("login-password").value);
    $("login-password").value = "";
    show($("login-error"), false);
    await enter(me);
  } catch (error) {
    say($("login-error"), error.message);
    show($("login-error"), true);
    $("login-password").select();
  } finally {
    button.disabled = false;
  }
});

$("logout").addEventListener("click", async () => {
  await api.logout().catch(() => {});
  leave();
});

api.whenSignedOut(() => { if (page) leave("You are signed out: the session has ended."); });

api.me().then(enter, () => leave());
