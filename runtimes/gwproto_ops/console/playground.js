// Playground: a conversation with any model, and what the gateway did for each answer.

import { getJson, request } from "./api.js";
import { Answer } from "./answer.js";
import { Combobox } from "./combobox.js";
import { byId, h, notice, say } from "./dom.js";
import * as snippets from "./snippets.js";
import { events } from "./sse.js";

const EXAMPLE_TOOLS = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
}];

const turns = []; // {message, answer?}: what was said, in order
let running = null; // the AbortController of the answer under way
let models;

export function start() {
  models = new Combobox(byId("model"), byId("model-list"));
  byId("tools").value = JSON.stringify(EXAMPLE_TOOLS, null, 2);
  byId("settings").open = matchMedia("(min-width: 60.01rem)").matches;
  byId("tools-on").addEventListener("change", () => (byId("tools-field").hidden = !byId("tools-on").checked));
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  byId("message").addEventListener("keydown", (event) => {
    // While an input method composes, Enter ends the composition.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  byId("stop").addEventListener("click", () => running?.abort());
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (!byId("page-playground").hidden) running?.abort();
  });
  byId("clear").addEventListener("click", clear);
  byId("copy-curl").addEventListener("click", () => showCode("As curl", snippets.curl));
  byId("copy-python").addEventListener("click", () => showCode("As Python", snippets.python));
  byId("code-close").addEventListener("click", () => byId("code-dialog").close());
  welcome();
}

export async function show() {
  byId("message").focus({ preventScroll: true });
  try {
    const { data } = await getJson("v1/models");
    models.offer(data.map(({ id, provider, tier, health }) => ({
      value: id,
      detail: provider ? [provider, tier].filter(Boolean).join(" · ") : "the healthy providers take turns",
      state: health,
    })));
  } catch {
    models.offer([{ value: "auto", detail: "the healthy providers take turns" }]);
  }
}

export function hide() {}

function welcome() {
  byId("talk").replaceChildren(h("p", { class: "muted welcome" },
    "Write a message below. ", h("strong", {}, "auto"), " lets the healthy providers take turns; the settings have every model by name."));
}

function clear() {
  running?.abort();
  turns.length = 0;
  welcome();
  say(byId("talk-status"), "Conversation cleared.");
  byId("message").focus();
}

/** The request's fields but for the messages; throws an Error that says what is wrong with a setting. */
function settings() {
  const body = { model: byId("model").value.trim() || "auto" };
  const number = (id, name, what) => {
    const field = byId(id);
    if (!field.validity.valid) throw new Error(`${what}: ${field.validationMessage}`);
    if (field.value !== "") body[name] = Number(field.value);
  };
  number("temperature", "temperature", "Temperature");
  number("max-tokens", "max_tokens", "Max tokens");
  if (byId("effort").value) body.reasoning_effort = byId("effort").value;
  if (byId("json-mode").checked) body.response_format = { type: "json_object" };
  if (byId("tools-on").checked) {
    let tools;
    try {
      tools = JSON.parse(byId("tools").value);
    } catch (problem) {
      throw new Error(`Tools: not JSON: ${problem.message}`);
    }
    if (!Array.isArray(tools)) throw new Error("Tools: a JSON array is needed, [ … ].");
    body.tools = tools;
  }
  const project = byId("project");
  if (!project.validity.valid) throw new Error(`Project: ${project.title}.`);
  if (project.value) body.project_id = project.value;
  return body;
}

/** The whole request; `more`: messages beyond those of the conversation. */
function requestBody(more = []) {
  const { model, ...rest } = settings();
  const system = byId("system").value.trim();
  const said = [...turns.map((turn) => turn.message), ...more];
  return {
    model,
    messages: system ? [{ role: "system", content: system }, ...said] : said,
    ...rest,
    stream: true,
    stream_options: { include_usage: true },
  };
}

function submit() {
  const field = byId("message");
  const text = field.value.trim();
  if (!text || running) return;
  const body = checked(() => requestBody([...results(), { role: "user", content: text }]));
  if (!body) return;
  for (const message of results()) add(message);
  add({ role: "user", content: text });
  field.value = "";
  ask(body);
}

/** Results of tools that the last answer called, as far as the conversation does not have them yet. */
const results = () => turns.at(-1)?.answer?.results() ?? [];

function checked(make) {
  try {
    notice(byId("settings-error"), "");
    return make();
  } catch (problem) {
    byId("settings").open = true;
    notice(byId("settings-error"), problem.message);
    byId("settings-error").scrollIntoView({ block: "nearest" });
    return null;
  }
}

function add(message) {
  const talk = byId("talk");
  if (!turns.length) talk.replaceChildren();
  turns.push({ message });
  talk.append(h("article", { class: `said ${message.role}` },
    h("h2", { class: "who" }, message.role === "tool" ? "Tool result" : "You"), h("div", { class: "text" }, message.content)));
  talk.scrollTop = talk.scrollHeight;
}

async function ask(body) {
  const talk = byId("talk");
  const answer = new Answer({ again: () => again(answer), sendResults: () => sendResults(answer) });
  for (const old of talk.querySelectorAll(".again")) old.remove();
  talk.append(answer.element);
  talk.scrollTop = talk.scrollHeight;
  const controller = new AbortController();
  running = controller;
  buttons();
  say(byId("talk-status"), "Waiting for the answer.");
  let problem = null;
  try {
    const response = await request("v1/chat/completions", {
      keyed: "yes",
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: controller.signal,
      onsend: () => answer.sent(),
    });
    answer.head(response.headers);
    await read(response, answer);
  } catch (caught) {
    problem = caught;
  }
  following(() => {
    if (problem?.name === "AbortError") answer.stopped();
    else if (problem) {
      if (problem.headers) answer.head(problem.headers);
      answer.failed(problem, problem.requestId);
    }
    answer.finish();
  });
  if (running === controller) running = null;
  buttons();
  if (!answer.element.isConnected) return; // cleared meanwhile
  if (answer.message) turns.push({ message: answer.message, answer });
  say(byId("talk-status"), answer.summary());
}

/** Whoever reads at the end goes on reading at the end. */
function following(change) {
  const talk = byId("talk");
  const atEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40;
  change();
  if (atEnd) talk.scrollTop = talk.scrollHeight;
}

async function read(response, answer) {
  let done = false;
  try {
    for await (const data of events(response.body)) {
      done ||= data === "[DONE]";
      if (done) continue; // to the end, so that the connection can be used again
      const chunk = JSON.parse(data);
      if (chunk.error) return answer.failed(chunk.error, response.headers.get("x-gateway-request-id"));
      following(() => answer.chunk(chunk));
    }
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
  }
  if (!done) answer.cutOff();
}

function again(answer) {
  if (running) return;
  if (turns.at(-1)?.answer === answer) turns.pop();
  const body = checked(() => requestBody());
  if (!body) return;
  answer.element.remove();
  ask(body);
}

function sendResults(answer) {
  if (running || turns.at(-1)?.answer !== answer) return;
  const body = checked(() => requestBody(answer.results()));
  if (!body) return;
  for (const message of answer.results()) add(message);
  ask(body);
}

function buttons() {
  byId("stop").hidden = !running;
  byId("send").hidden = Boolean(running);
  byId("talk").setAttribute("aria-busy", String(Boolean(running)));
}

async function showCode(title, write) {
  const text = byId("message").value.trim();
  const more = text || !turns.length ? [{ role: "user", content: text || "Hello" }] : [];
  const body = checked(() => requestBody(more));
  if (!body) return;
  say(byId("code-title"), title);
  say(byId("code"), write(body));
  say(byId("code-note"), "");
  byId("code-dialog").showModal();
  byId("code").focus();
  try {
    await navigator.clipboard.writeText(byId("code").textContent);
    say(byId("code-note"), "Copied to the clipboard.");
  } catch {
    // Only pages over HTTPS and of this machine may write to the clipboard.
    getSelection().selectAllChildren(byId("code"));
    say(byId("code-note"), "Selected: copy it from here.");
  }
}
