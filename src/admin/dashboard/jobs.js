// Long work: how far it is, how fast, how long still, and the big red button.

import * as api from "./api.js";
import { confirm } from "./dialog.js";
import { attribute, clock, duration, h, keyed, number, rate, say, show } from "./dom.js";
import { said, STEPS } from "./flip.js";

export function render(section, parent, model) {
  const jobs = model.jobs ?? [];
  show(section, jobs.length > 0);
  keyed(parent, jobs, (job) => job.id, (job) => create(job, model), (element, job) => update(element, job, model));
}

function create(job, model) {
  const button = h("button", { type: "button", class: "danger abort", "data-changes": true, onclick: () => ask(element.job, model) }, "Abort");
  const element = h("article", { class: "card job", "aria-label": `${job.kind} of ${job.group}` },
    h("div", { class: "grow" }, h("h3", {}, `${job.kind} of ${job.group}`, h("span", { class: "muted small step" })),
      h("progress", { max: 1, "aria-label": "Progress" }), h("p", { class: "figures small" })), button);
  return element;
}

function update(element, job, model) {
  element.job = job;
  say(element.querySelector(".step"), ` ${job.state}: ${job.step}`);
  const bar = element.querySelector("progress");
  const known = job.total > 0;
  if (known) bar.value = Math.min(1, job.done / job.total);
  else bar.removeAttribute("value");
  const share = known ? `${Math.floor((job.done / job.total) * 100)} %, ` : "";
  const left = job.eta_s === null || job.eta_s === undefined ? "time left not known" : `${duration(job.eta_s)} left`;
  say(element.querySelector(".figures"), job.kind === "cutover" ? progress(job, model) : `${share}${number(job.done)} of ${known ? number(job.total) : "?"}, ${rate(job.rate_per_s)} per second, ${left}`);
  attribute(bar, "aria-valuetext", known ? `${share}${left}` : null);
  const button = element.querySelector(".abort");
  show(button, job.abortable);
  model.guard(button);
}

/** How far a cutover is: its steps are counted by what they are, and the one that is under way is the next. */
function progress(job, model) {
  const own = model.events.filter((event) => event.kind === "step" && event.subject === job.group);
  const first = own.findIndex((event) => said(event).name === "look");
  if (first < 0) return "It has begun.";
  const done = own.slice(0, first + 1).reverse().map((event) => said(event).name);
  const names = Object.keys(STEPS);
  const next = names[names.indexOf(done.at(-1)) + 1];
  return `Since ${clock(own[first].at_ms)}. Done: ${done.join(", ")}.${next ? ` Now: ${next} (${STEPS[next]}).` : ""}`;
}

function ask(job, model) {
  confirm({
    title: `Abort the ${job.kind} of ${job.group}?`,
    text: job.kind === "cutover"
      ? "Before its decision a cutover goes back as if it had not begun: the old authority serves on, and no client sees an error."
      : "It stops where it is. What it has done stays.",
    button: `Abort the ${job.kind}`,
    danger: true,
    act: async (why) => {
      await api.abort(job.id, why);
      model.refresh();
    },
  });
}
