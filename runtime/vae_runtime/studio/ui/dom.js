/** Elements without a framework. */

/**
 * An element. `on…` are listeners, names that the element knows are properties, the rest attributes;
 * null and false are left out. Text only ever enters as text nodes.
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

/** A titled section of the page; `hint` says in one line what can be done in it. */
export function card(name, title, hint, ...children) {
  const heading = h("h2", { id: `title-${name}` }, title);
  return h(
    "section",
    { class: `card ${name}`, id: name, "aria-labelledby": heading.id },
    h("header", {}, heading, hint ? h("p", { class: "hint" }, hint) : null),
    ...children,
  );
}

/** A button; `keys` names its shortcut, which ui/keys.js presses. */
export function button(text, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, text);
}

/** A labelled control in one line. */
export function field(text, control, ...after) {
  return h("label", { class: "field" }, h("span", {}, text), control, ...after);
}

/** A `<select>` of [value, text] pairs. */
export function choice(pairs, value, onchange, props = {}) {
  const options = pairs.map(([key, text]) => h("option", { value: key }, text));
  const select = h("select", { onchange: () => onchange(select.value), ...props }, ...options);
  select.value = value;
  return select;
}

/** Give a file to the person: the browser's own download. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What one-line message an error has for people. */
export function messageOf(error) {
  return String(error?.message ?? error).split("\n")[0];
}
