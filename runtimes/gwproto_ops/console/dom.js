// Elements are made here. Strings become text nodes, never markup: what models, projects and providers are called, and
// what a model says, can contain anything.

export const byId = (id) => document.getElementById(id);

/** An element. `on…` attributes are listeners; false, null and undefined leave an attribute out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set text only where it changes, so that selections and screen readers are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show `message` (text or an element) in a notice, or hide it when there is none. */
export function notice(element, message) {
  element.hidden = !message;
  if (message instanceof Node) element.replaceChildren(message);
  else say(element, message || "");
}

/**
 * Make `parent` have one child for each item, in order. Children are kept by key: `make(item)` gives
 * `{element, update(item)}`, and a child stays the same element for as long as its key is there.
 */
export function sync(parent, items, key, make) {
  const known = (parent.keyed ??= new Map());
  const wanted = new Set();
  items.forEach((item, index) => {
    const id = key(item);
    wanted.add(id);
    let child = known.get(id);
    if (!child) known.set(id, (child = make(item)));
    child.update?.(item, index);
    if (parent.children[index] !== child.element) parent.insertBefore(child.element, parent.children[index] ?? null);
  });
  for (const [id, child] of known) {
    if (!wanted.has(id)) {
      child.element.remove();
      known.delete(id);
    }
  }
}

/** A state as a coloured mark beside its word: never the colour alone. */
export function badge(state, text = state.replaceAll("_", " ")) {
  return h("span", { class: "badge", "data-state": state }, text);
}
