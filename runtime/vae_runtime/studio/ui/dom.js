/** Helpers for the DOM, without a framework. */

/**
 * Make an element. Props that begin with `on` become listeners, those that the element knows become properties, and
 * the others attributes; null and false are skipped. Strings among the children become text nodes, never HTML.
 */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A titled section of the page; `hint` is one line on how to use it. */
export function panel(name, title, hint, ...children) {
  const heading = h("h2", { id: `title-${name}` }, title);
  return h(
    "section",
    { class: `panel ${name}`, id: name, "aria-labelledby": heading.id },
    h("header", {}, heading, hint ? h("p", { class: "hint" }, hint) : null),
    ...children,
  );
}

export function button(text, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, text);
}

/** A label and its control in one line. */
export function field(text, control, ...after) {
  return h("label", { class: "field" }, h("span", {}, text), control, ...after);
}

/** A `<select>` of [value, text] pairs that shows `key` of the state. Choosing sets the key or calls `choose`. */
export function choice(store, key, pairs, props = {}, choose = (value) => store.set({ [key]: value })) {
  const options = pairs.map(([value, text]) => h("option", { value }, text));
  const select = h("select", { onchange: () => choose(select.value), ...props }, ...options);
  store.on([key], (state) => { select.value = state[key]; });
  return select;
}

/** The position of the pointer in an element: [right, down], 0 to 1 inside it. */
export function pointerIn(node, event) {
  const box = node.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

/** The direction of an arrow key, [right, down], or null for another key. Stops the key from scrolling the page. */
export function arrowOf(event) {
  const arrow = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? null;
  if (arrow) event.preventDefault();
  return arrow;
}

/** Offer a file as a download. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The one-line message of an error. */
export function messageOf(error) {
  return String(error?.message ?? error).split("\n")[0];
}
