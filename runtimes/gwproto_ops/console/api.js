// Talking to the gateway, and its key. The key is held here: in memory, and in sessionStorage if it is to be remembered for
// this tab; never in a URL, a cookie or localStorage.

import { byId, notice, say } from "./dom.js";

/** Where the gateway is: it may be mounted below another application. */
export const ROOT = new URL("../", import.meta.url);

const KEPT = "gwproto-key";

let key = sessionStorage.getItem(KEPT) ?? "";
let declined = false; // asked for a key that is not always needed, the person gave none
let asking = null; // the dialog's promise while it is open
let heard = true; // whether the last request was answered at all
let heardAt = Date.now();

/** What the gateway answered in place of what was asked for. */
export class GatewayError extends Error {
  constructor(status, error, headers) {
    super(error.message || `The gateway answered with status ${status}.`);
    this.status = status;
    this.type = error.type ?? "";
    this.code = error.code ?? "";
    this.param = error.param ?? "";
    this.requestId = headers?.get("x-gateway-request-id") ?? "";
    this.headers = headers;
  }
}

/** Nobody answered. */
export class Unreachable extends Error {
  constructor() {
    super("The gateway does not answer.");
  }
}

/** The key was asked for and not given. */
export class KeyMissing extends Error {
  constructor() {
    super("This needs a key of the gateway.");
  }
}

/**
 * A successful response. `options` are fetch's; `keyed`: "no", "yes", or "if given": goes without a key if the person has
 * none to give. `onsend` is called whenever the request goes out. Throws one of the errors above, or an AbortError.
 */
export async function request(path, { keyed = "no", headers = {}, onsend, ...options } = {}) {
  for (;;) {
    if (keyed !== "no" && !key && !(keyed === "if given" && declined) && !(await askForKey())) {
      if (keyed === "yes") throw new KeyMissing();
      declined = true;
    }
    const used = keyed === "no" ? "" : key;
    onsend?.();
    const response = await send(path, { ...options, headers: used ? { ...headers, authorization: `Bearer ${used}` } : headers });
    if (response.ok) return response;
    const error = await errorOf(response);
    if (error.status !== 401 || keyed === "no") throw error;
    if (!used) throw new KeyMissing();
    if (used === key) forget();
    if (!(await askForKey(error.message))) throw new KeyMissing();
  }
}

export async function getJson(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (problem) {
    if (problem instanceof SyntaxError) throw new GatewayError(response.status, { message: "The answer is not JSON." }, response.headers);
    throw problem.name === "AbortError" ? problem : new Unreachable();
  }
}

async function send(path, options) {
  try {
    const response = await fetch(new URL(path, ROOT), { cache: "no-store", credentials: "omit", redirect: "error", ...options });
    hear(true);
    return response;
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    hear(false);
    throw new Unreachable();
  }
}

async function errorOf(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // something in between answered
  }
  return new GatewayError(response.status, body?.error ?? {}, response.headers);
}

function hear(answered) {
  if (answered) heardAt = Date.now();
  heard = answered;
  const state = byId("link-state");
  state.dataset.state = answered ? "available" : "unreachable";
  say(state, answered ? "" : "no answer");
}

export const contact = () => ({ heard, heardAt });

// The key

function forget() {
  key = "";
  sessionStorage.removeItem(KEPT);
  show();
}

function show() {
  say(byId("key-button"), key ? "Forget key" : "Enter key");
}

/** Whether there is a key now. `problem`: why the last one was refused. */
export function askForKey(problem = "") {
  const dialog = byId("key-dialog");
  if (!asking) {
    byId("key").value = "";
    asking = new Promise((resolve) => {
      dialog.onclose = () => {
        asking = null;
        byId("key").value = "";
        resolve(key !== "");
      };
    });
    dialog.showModal();
  }
  notice(byId("key-error"), problem);
  byId("key").focus();
  return asking;
}

async function tryKey() {
  const field = byId("key");
  const typed = field.value.trim();
  const button = byId("key-use");
  button.disabled = true;
  notice(byId("key-error"), "");
  try {
    const problem = await refused(typed);
    if (problem) {
      notice(byId("key-error"), problem);
      field.select();
      field.focus();
      return;
    }
    key = typed;
    if (byId("key-keep").checked) sessionStorage.setItem(KEPT, key);
    show();
    byId("key-dialog").close();
  } finally {
    button.disabled = false;
  }
}

/** Why the gateway does not take this key; "" if it does, or does not say. */
async function refused(typed) {
  if (!/^[\x21-\x7e]+$/.test(typed)) return "A key has no spaces and only plain letters, digits and signs.";
  try {
    const response = await send("v1/requests?limit=1", { headers: { authorization: `Bearer ${typed}` } });
    // Any other error is not about the key: it will be said where it matters.
    return response.status === 401 || response.status === 429 ? (await errorOf(response)).message : "";
  } catch (problem) {
    return problem.message;
  }
}

export function startKeys() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    tryKey();
  });
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
  byId("key-button").addEventListener("click", () => (key ? forget() : askForKey()));
  show();
}
