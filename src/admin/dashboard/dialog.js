// Dialogs: the browser's own, which keep the focus inside, close by Escape and give the focus back.

import { h, problems, say, show } from "./dom.js";

/** Opens a dialog of `title` and `body`; it is removed when it closes. `guard` says whether Escape may close it. */
export function open(title, body, { wide = false, guard = () => true, onclose = () => {} } = {}) {
  const name = `dialog-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const dialog = h("dialog", { class: wide ? "wide" : null, "aria-labelledby": name }, h("h2", { id: name }, title), body);
  const before = document.activeElement;
  dialog.addEventListener("cancel", (event) => { if (!guard()) event.preventDefault(); });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
    onclose();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A labelled text field. */
export function field(label, { hint = null, required = false, value = "", name }) {
  const input = h("input", { id: `field-${name}`, name, required, value, autocomplete: "off", "aria-describedby": hint ? `hint-${name}` : null });
  const element = h("div", { class: "field" }, h("label", { for: `field-${name}` }, label), input,
    hint && h("p", { id: `hint-${name}`, class: "muted small" }, hint));
  return { element, input };
}

export const whyField = () => field("Why", { name: "why", hint: "It stands in the events and in the log." });

/** Asks before something changes: what will happen, why, and then `act(why)`; what it throws is shown, and one may try again. */
export function confirm({ title, text, button, danger = false, fields = [], why = whyField(), act }) {
  const trouble = h("div", { class: "trouble", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, button);
  let busy = false;
  const form = h("form", { method: "dialog" },
    [text].flat().map((line) => (typeof line === "string" ? h("p", {}, line) : line)), fields, why.element, trouble,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = go.disabled = true;
    show(trouble, false);
    say(go, `${button} …`);
    try {
      await act(why.input.value.trim() || null, new FormData(form));
      dialog.close();
    } catch (error) {
      trouble.replaceChildren(problems(error.message));
      show(trouble, true);
      say(go, button);
    } finally {
      busy = go.disabled = false;
    }
  });
  const dialog = open(title, form);
  why.input.focus();
  return dialog;
}
