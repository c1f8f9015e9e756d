// Which page is shown. The address says it after the `#`, and never holds more than a page's name and a request's id.

import { startKeys } from "./api.js";
import { byId, notice } from "./dom.js";

// A page's code is fetched when it is first opened.
const PAGES = {
  status: () => import("./status.js"),
  playground: () => import("./playground.js"),
  analytics: () => import("./analytics.js"),
  requests: () => import("./requests.js"),
};
const started = {};
let current = "";

async function go() {
  const [wanted, query = ""] = location.hash.slice(1).split("?");
  const name = Object.hasOwn(PAGES, wanted) ? wanted : "status";
  if (current !== name) started[current]?.hide();
  current = name;
  for (const link of byId("nav").children) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · gwproto`;
  const page = await opened(name); // shown once it works
  if (current !== name) return;
  for (const other of Object.keys(PAGES)) byId(`page-${other}`).hidden = other !== name || !page;
  page?.show(new URLSearchParams(query));
}

async function opened(name) {
  if (started[name]) return started[name];
  try {
    const page = await PAGES[name]();
    notice(byId("load-error"), "");
    if (!started[name]) {
      started[name] = page;
      page.start();
    }
    return page;
  } catch (problem) {
    notice(byId("load-error"), "The gateway did not send all of this page. Reload it to try again.");
    console.warn(problem);
    return null;
  }
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // "#main" would be a page
  byId("main").focus();
});
startKeys();
addEventListener("hashchange", go);
go();
