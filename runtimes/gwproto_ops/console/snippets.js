// A request as text to run elsewhere. The key is named, never written.

import { ROOT } from "./api.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curl(body) {
  const url = new URL("v1/chat/completions", ROOT).href;
  return [
    `curl -N ${quoted(url)} \\`,
    `  -H "authorization: Bearer $GATEWAY_API_KEY" \\`,
    `  -H 'content-type: application/json' \\`,
    `  -d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join("\n");
}

// What the SDK's method has no parameter for.
const EXTRA = new Set(["project_id"]);

export function python(body) {
  const { stream, stream_options: _, ...fields } = body;
  const extra = Object.fromEntries(Object.entries(fields).filter(([name]) => EXTRA.has(name)));
  const parameters = Object.entries(fields).filter(([name]) => !EXTRA.has(name)).map(([name, value]) => `    ${name}=${literal(value, 4)},`);
  if (Object.keys(extra).length) parameters.push(`    extra_body=${literal(extra, 4)},`);
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(new URL("v1", ROOT).href)}, api_key=os.environ["GATEWAY_API_KEY"])`,
    "stream = client.chat.completions.create(",
    ...parameters,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
    "print()",
    "",
  ].join("\n");
}

/** A JSON value as a Python expression. JSON's strings are Python's, and so are its numbers. */
function literal(value, indent = 0) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = " ".repeat(indent + 4);
  const items = Array.isArray(value)
    ? value.map((item) => `${inner}${literal(item, indent + 4)},\n`)
    : Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${literal(item, indent + 4)},\n`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return items.length ? `${open}\n${items.join("")}${" ".repeat(indent)}${close}` : open + close;
}
