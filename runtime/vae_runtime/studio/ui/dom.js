/** Elements without a framework. */

/**
 * An element. Names that begin with `on` are listeners, those that the element knows are properties, the others
 * attributes; null and false are left out. Text only ever becomes text nodes.
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

/** A titled section of the page; `hint` says in one line what can be done there. */
export function panel(name, title, hint, ...children) {
  const heading = h("h2", { id: `title-${name}` }, title);
  return h(
    "section",
    { class: `panel ${name}`, id: name, "aria-labelledby": heading.id },
    h("header", {}, heading, hint ? h("p", { class: "hint" }, hint) : null),
    ...children,
  );
}

/** A button. */
export function button(text, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, text);
}

/** A labelled control in one line. */
export function field(text, control, ...after) {
  return h("label", { class: "field" }, h("span", {}, text), control, ...after);
}

/** A `<select>` of [value, text] pairs that shows `key` of the state; choosing sets it, or calls `choose`. */
export function choice(store, key, pairs, props = {}, choose = (value) => store.set({ [key]: value })) {
  const options = pairs.map(([value, text]) => h("option", { value }, text));
  const select = h("select", { onchange: () => choose(select.value), ...props }, ...options);
  store.on([key], (state) => { select.value = state[key]; });
  return select;
}

/** Where the pointer is in an element: [right, down], each 0 to 1 inside it. */
export function pointerIn(node, event) {
  const box = node.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

/** The direction of an arrow key, [right, down]; null for another key. Keeps it from scrolling. */
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
