// Long work: how far it is, how fast, how long still, and the big red button.

import * as api from "./api.js";
import { confirm } from "./dialog.js";
import { attribute, duration, h, keyed, number, rate, say, show } from "./dom.js";

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
  say(element.querySelector(".figures"), `${share}${number(job.done)} of ${known ? number(job.total) : "?"}, ${rate(job.rate_per_s)} per second, ${left}${job.started_ms ? `, for ${duration((Date.now() - job.started_ms) / 1_000)}` : ""}`);
  attribute(bar, "aria-valuetext", known ? `${share}${left}` : null);
  const button = element.querySelector(".abort");
  show(button, job.abortable);
  model.guard(button);
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
