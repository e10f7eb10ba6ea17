/** Stores the whole state in the address: a link with the part after `#` restores the page. */

const WHOLE = { seed: [0, 2 ** 53 - 1], x: [0, Infinity], y: [0, Infinity], label: [0, Infinity] };
const REAL = { temperature: [0, 10], t: [0, 1] };
const WORDS = { prior: ["fitted", "normal"], how: ["linear", "spherical"], plane: ["pca", "grid"] };
const PINS = ["a", "b"];

/** Encode the state as the text after `#`. Latents are exact: little-endian float32 in base64url. */
export function toHash(state, model) {
  const params = new URLSearchParams({ id: model.id });
  for (const key of [...Object.keys(WHOLE), ...Object.keys(REAL), ...Object.keys(WORDS)]) {
    if (state[key] !== null) params.set(key, state[key]);
  }
  params.set("z", pack(state.z));
  for (const key of PINS) {
    if (!state[key]) continue;
    params.set(key, pack(state[key].z));
    if (state[key].label !== null) params.set(`${key}-label`, state[key].label);
  }
  if (state.mix) params.set("mix", `${state.mix.label ?? "none"},${state.mix.share}`);
  return params.toString();
}

/**
 * Decode the state in a link. Values that are missing or out of range are skipped.
 *
 * @returns {{ state: object, notice: string | null }}  the notice explains why a link was ignored
 */
export function fromHash(hash, model) {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  if (!params.has("z")) return { state: {}, notice: null };
  if (params.get("id") !== model.id) {
    return { state: {}, notice: `This link belongs to bundle ${params.get("id")}, but this is ${model.id}.` };
  }
  const state = {};
  for (const [key, [low, high]] of Object.entries({ ...WHOLE, ...REAL })) {
    const value = params.has(key) ? Number(params.get(key)) : NaN;
    const top = key === "label" ? model.classes.length - 1 : "xy".includes(key) ? model.prior.coordinates - 1 : high;
    if (value >= low && value <= top && (key in REAL || Number.isInteger(value))) state[key] = value;
  }
  for (const [key, words] of Object.entries(WORDS)) {
    if (words.includes(params.get(key))) state[key] = params.get(key);
  }
  const labelOf = (text) => (/^\d+$/.test(text) && Number(text) < model.classes.length ? Number(text) : null);
  for (const key of ["z", ...PINS]) {
    const z = unpack(params.get(key) ?? "", model.latentDim);
    if (z) state[key] = key === "z" ? z : { z, label: labelOf(params.get(`${key}-label`) ?? "") };
  }
  const [other, share] = (params.get("mix") ?? "").split(",");
  if (share > 0 && share < 1) state.mix = { label: labelOf(other), share: Number(share) };
  if (model.classes.length && !params.has("label")) state.label = null;
  return { state: { ...state, origin: { by: "link" } }, notice: null };
}

function pack(latents) {
  const view = new DataView(new ArrayBuffer(4 * latents.length));
  latents.forEach((value, i) => view.setFloat32(4 * i, value, true));
  const text = Array.from(new Uint8Array(view.buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function unpack(text, dim) {
  if (!/^[\w-]*$/.test(text) || Math.floor((text.length * 3) / 4) !== 4 * dim) return null;
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const latents = Float32Array.from({ length: dim }, (_, i) => view.getFloat32(4 * i, true));
  return latents.every(Number.isFinite) ? latents : null;
}

/** Update the address when the state changes, and the state when an address is pasted in. */
export function followHash({ model, store, showStatus, signal }) {
  let written = location.hash;
  let timer = 0;
  store.on(["z", "label", "mix", "seed", "temperature", "prior", "x", "y", "a", "b", "how", "t", "plane"], () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (signal.aborted) return;
      written = `#${toHash(store.get(), model)}`;
      history.replaceState(null, "", written);
    }, 250);
  });
  window.addEventListener("hashchange", () => {
    if (location.hash === written) return;
    const { state, notice } = fromHash(location.hash, model);
    if (notice) showStatus(notice);
    else store.set(state);
  }, { signal });
}
