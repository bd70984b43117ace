// The proxy's HTTP API: requests, and the stream of live data.

let csrf = "";

/** What the proxy answered instead of doing it. */
export class Refusal extends Error {
  constructor(status, kind, message) {
    super(message);
    Object.assign(this, { status, kind });
  }
}

/** Milliseconds that an ordinary request may take; a flip takes as long as its cutover. */
const PATIENCE = 15_000;
const FLIP_PATIENCE = 120_000;

let onSignedOut = () => {};
export const whenSignedOut = (callback) => { onSignedOut = callback; };

async function call(method, path, body, patience = PATIENCE) {
  const headers = {};
  if (method === "POST") {
    headers["Content-Type"] = "application/json";
    headers["X-Switchover-CSRF"] = csrf;
  }
  const options = { method, headers, credentials: "same-origin", signal: AbortSignal.timeout(patience) };
  if (method === "POST") options.body = JSON.stringify(body ?? {});
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, options);
  } catch (error) {
    if (error.name === "TimeoutError") throw new Refusal(0, "timeout", `no answer within ${patience / 1_000} s`);
    throw new Refusal(0, "network", "the proxy cannot be reached");
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    value = null;
  }
  if (response.ok) return value;
  const refusal = new Refusal(response.status, value?.error?.kind ?? "internal", value?.error?.message ?? `the proxy answered ${response.status}`);
  if (response.status === 401 && path !== "login") onSignedOut();
  throw refusal;
}

const part = encodeURIComponent;

function query(parameters) {
  const set = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

async function signedIn(answer) {
  const me = await answer;
  csrf = me.csrf;
  return me;
}

export const login = (user, password) => signedIn(call("POST", "login", { user, password }));
export const me = () => signedIn(call("GET", "me"));
export const logout = () => call("POST", "logout");

export const status = () => call("GET", "status");
export const sessions = () => call("GET", "sessions");
export const pins = () => call("GET", "pins");
export const digests = (parameters) => call("GET", `digests${query(parameters)}`);
export const events = (parameters) => call("GET", `events${query(parameters)}`);
export const samples = () => call("GET", "samples");
export const jobs = () => call("GET", "jobs");
export const config = () => call("GET", "config");
export const configDiff = () => call("GET", "config/diff");
export const shadow = (parameters) => call("GET", `shadow${query(parameters)}`);
export const readiness = (group) => call("GET", `readiness/${part(group)}`, null, 60_000);

export const flag = (group, request) => call("POST", `groups/${part(group)}/flag`, request, FLIP_PATIENCE);
export const pause = (group, why) => call("POST", `groups/${part(group)}/pause`, { why });
export const resume = (group, why) => call("POST", `groups/${part(group)}/resume`, { why });
export const standby = (group, request) => call("POST", `groups/${part(group)}/standby`, request);
export const kill = (session, request) => call("POST", `sessions/${part(session)}/kill`, request);
export const abort = (job, why) => call("POST", `jobs/${part(job)}/abort`, { why });
export const reload = (why) => call("POST", "reload", { why });
export const explain = (request) => call("POST", "explain", request);

/** Milliseconds without a sample after which the stream counts as lost: a sample comes each second. */
const SILENCE = 5_000;

/** The stream of samples and events; it connects again by itself, for good, and says how it is: `open` or `lost`. */
export class Live {
  constructor({ onsample, onevent, onstate }) {
    Object.assign(this, { onsample, onevent, onstate, source: null, timer: 0, wait: 500, ended: false });
    this.connect();
  }

  connect() {
    this.source?.close();
    if (this.ended) return;
    const source = new EventSource("/api/v1/live");
    this.source = source;
    const heard = (receive) => (message) => {
      this.wait = 500;
      this.watch();
      this.onstate("open");
      receive(JSON.parse(message.data));
    };
    source.addEventListener("sample", heard(this.onsample));
    source.addEventListener("event", heard(this.onevent));
    source.addEventListener("error", () => this.lost());
    this.watch();
  }

  watch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.lost(), SILENCE);
  }

  lost() {
    this.source?.close();
    if (this.ended) return;
    this.onstate("lost");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(this.wait * 2, 3_000);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.source?.close();
  }
}
