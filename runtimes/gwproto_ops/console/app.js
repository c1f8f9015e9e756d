// Which page is shown. The address says it after the `#`, and never holds more than a page's name and a request's id.

import { startKeys } from "./api.js";
import { byId } from "./dom.js";
import * as status from "./status.js";
import * as playground from "./playground.js";
import * as analytics from "./analytics.js";
import * as requests from "./requests.js";

const PAGES = { status, playground, analytics, requests };
const started = new Set();
let current = "";

function go() {
  const [wanted, query = ""] = location.hash.slice(1).split("?");
  const name = wanted in PAGES ? wanted : "status";
  if (current && current !== name) PAGES[current].hide();
  for (const other of Object.keys(PAGES)) byId(`page-${other}`).hidden = other !== name;
  for (const link of byId("nav").children) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · gwproto`;
  current = name;
  if (!started.has(name)) {
    started.add(name);
    PAGES[name].start();
  }
  PAGES[name].show(new URLSearchParams(query));
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // "#main" would be a page
  byId("main").focus();
});
startKeys();
addEventListener("hashchange", go);
go();
