// The panels below: one is shown and asks the proxy, the others rest.

import { attribute, h, show } from "./dom.js";

/** `panels`: [{ name, element, refresh(model), every }], `every` in milliseconds. */
export class Tabs {
  constructor(list, area, panels, model) {
    Object.assign(this, { panels, model, chosen: null, timer: 0 });
    for (const panel of panels) {
      const id = panel.name.toLowerCase();
      panel.tab = h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => this.choose(panel) }, panel.name);
      panel.area = h("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}`, tabindex: 0, class: "card flush", hidden: true }, panel.element);
      list.append(panel.tab);
      area.append(panel.area);
    }
    list.addEventListener("keydown", (event) => this.key(event));
    this.choose(panels[0]);
  }

  choose(panel) {
    this.chosen = panel;
    for (const one of this.panels) {
      attribute(one.tab, "aria-selected", String(one === panel));
      attribute(one.tab, "tabindex", one === panel ? 0 : -1);
      show(one.area, one === panel);
    }
    this.refresh();
  }

  open(name) {
    const panel = this.panels.find((one) => one.name === name);
    this.choose(panel);
    panel.tab.focus();
    panel.tab.scrollIntoView({ block: "start" });
    return panel;
  }

  key(event) {
    const at = this.panels.indexOf(this.chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.panels.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const panel = this.panels.at(to % this.panels.length);
    this.choose(panel);
    panel.tab.focus();
  }

  /** Asks for what the shown panel shows, and again after its time. */
  async refresh() {
    clearTimeout(this.timer);
    const panel = this.chosen;
    if (!document.hidden) {
      try {
        await panel.refresh(this.model);
        panel.trouble?.remove();
      } catch (error) {
        panel.trouble ??= h("p", { class: "note bad", role: "alert" });
        panel.trouble.textContent = error.message;
        panel.area.prepend(panel.trouble);
      }
    }
    clearTimeout(this.timer);
    if (panel.every && panel === this.chosen && !this.ended) this.timer = setTimeout(() => this.refresh(), panel.every);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
  }
}

/** A labelled select or input in a panel's toolbar. */
export function control(label, element) {
  const id = `control-${label.toLowerCase().replaceAll(" ", "-")}-${control.count = (control.count ?? 0) + 1}`;
  element.id = id;
  return h("span", { class: "control" }, h("label", { for: id }, label), element);
}

export function select(options, onchange) {
  const element = h("select", { onchange }, options.map(([value, text]) => h("option", { value }, text)));
  return element;
}

/** Replaces a select's options, keeping what is chosen. */
export function options(element, list) {
  const now = JSON.stringify(list);
  if (element.dataset.options === now) return;
  element.dataset.options = now;
  const chosen = element.value;
  element.replaceChildren(...list.map(([value, text]) => h("option", { value }, text)));
  element.value = list.some(([value]) => value === chosen) ? chosen : list[0][0];
}
