/** The page: opens a bundle, builds the panels that fit its model, and shows errors in one line. */

import { load } from "../engine/index.js";
import { h, messageOf } from "./dom.js";
import { drawPanel } from "./draw.js";
import { createFrames } from "./frames.js";
import { gridPanel } from "./grid.js";
import { header, opener } from "./header.js";
import { keysDialog } from "./keys.js";
import { playHero } from "./hero.js";
import { labelsPanel } from "./labels.js";
import { followHash, fromHash } from "./link.js";
import { cloudOf, mapPanel } from "./map.js";
import { morphPanel } from "./morph.js";
import { savePanel } from "./save.js";
import { rangeOf, slidersPanel } from "./sliders.js";
import { loupe, stagePanel } from "./stage.js";
import { createStore } from "./store.js";

const LAYOUTS = [
  ["(min-width: 1180px)", [["stage", "draw"], ["labels", "grid", "morph", "save"], ["sliders", "map"]]],
  ["(min-width: 760px)", [["stage", "draw", "sliders"], ["labels", "grid", "morph", "map", "save"]]],
  ["all", [["stage", "labels", "draw", "morph", "sliders", "grid", "map", "save"]]],
];
const FOLDED = ["sliders", "grid", "map", "save"]; // in one column, as on a phone
const root = document.getElementById("studio");
const status = h("p", { class: "status", role: "status", "aria-live": "polite" });
let current = null;
let wasm = null;

/**
 * @param assets  { wasm, name, bundle: Uint8Array | null, points: { z, labels, n } | null }
 */
export async function start(assets) {
  document.body.append(status);
  takeDrops(openFiles);
  wasm = assets.wasm;
  if (!assets.bundle) return welcome(null);
  return show(assets.bundle, assets.name, assets.points);
}

/** Open a bundle and build its page; the previous bundle is closed only after the new one has opened. */
async function show(source, name, points = null) {
  let model;
  try {
    model = await load(source, { name, wasm });
    const activity = await model.activity();
    close();
    current = build(model, activity, points);
  } catch (error) {
    if (model !== current?.model) model?.close();
    if (current) showStatus(messageOf(error), true);
    else welcome(messageOf(error));
  }
}

function build(model, activity, points) {
  const life = new AbortController();
  const spread = model.prior.spread();
  const { state, notice } = fromHash(location.hash, model);
  const store = createStore({ ...initialState(model, activity), ...state });
  const main = h("main", {});
  const frames = createFrames(model, store, {
    error: (thrown) => showStatus(messageOf(thrown), true),
    busy: (now) => main.setAttribute("aria-busy", String(now)),
  });
  const app = {
    model, store, frames, activity, showStatus,
    signal: life.signal, centre: Float32Array.from(spread.mean), range: rangeOf(spread),
  };
  const panels = {
    stage: stagePanel(app), labels: labelsPanel(app), grid: gridPanel(app), map: mapPanel(app, cloudOf(model, points)),
    morph: morphPanel(app), draw: drawPanel(app), save: savePanel(app), sliders: slidersPanel(app),
  };
  root.replaceChildren(header(app, openFiles), main, loupe(app, panels.stage), keysDialog(app));
  arrange(main, panels, life.signal);
  followHash(app);
  if (!state.z) playHero(app);
  performance.mark("live"); // when the page answers to its controls
  document.title = `${model.name} · Latent studio`;
  showStatus(notice ?? "");
  return { model, app, end: () => { life.abort(); frames.stop(); } };
}

/** Latents of seed 0, and a grid of the two dimensions with the largest effect. */
function initialState(model, activity) {
  const label = model.classes.length ? Math.min(3, model.classes.length - 1) : null;
  const [x, y = x] = activity.order;
  const last = model.classes.length - 2; // of ten digits, from a 1 to an 8
  const [a, b] = [1, Math.max(last, 0)].map((k, i) => {
    const pinned = model.classes.length ? Math.min(k, model.classes.length - 1) : null;
    return { z: model.sampleLatents({ seed: i + 1, label: pinned }), label: pinned };
  });
  const options = { seed: 0, label, temperature: 1, prior: "fitted" };
  return {
    ...options, z: model.sampleLatents(options), origin: { by: "sampled", ...options },
    x, y, mix: null, a, b, hero: null, how: "linear", t: 0, plane: "pca", language: "python", hover: null,
  };
}

/**
 * Put the panels (some may be null) into one, two or three columns, depending on the window's width. They are moved in
 * the document rather than reordered by CSS, so that the focus order matches what is seen.
 */
function arrange(main, panels, signal) {
  const queries = LAYOUTS.map(([query]) => matchMedia(query));
  const place = () => {
    const columns = LAYOUTS[queries.findIndex((query) => query.matches)][1];
    main.dataset.columns = String(columns.length);
    const put = (name) => (columns.length === 1 && FOLDED.includes(name) ? folded(panels[name]) : panels[name]);
    main.replaceChildren(...columns.map((names) => h("div", {}, ...names.map(put))));
  };
  for (const query of queries) query.addEventListener("change", place, { signal });
  place();
}

/** A panel that its title opens and closes; it is remembered when the columns change. */
function folded(panel) {
  const fold = h("details", { class: "fold", open: Boolean(panel.dataset.open) }, h("summary", {}, panel.querySelector("h2").textContent), panel);
  fold.addEventListener("toggle", () => { panel.dataset.open = fold.open ? "yes" : ""; });
  return fold;
}

function close() {
  current?.end();
  current?.model.close();
  current = null;
}

/** Without a bundle, or after one was refused: give the reason, and offer to open another. */
function welcome(refusal) {
  root.replaceChildren(h(
    "div", { class: "welcome" }, h("h1", {}, "Latent studio"),
    refusal ? h("p", { class: "refusal", role: "alert", id: "refusal" }, refusal) : null,
    h("p", {}, "Drop a bundle here: a .zip, or all files of its folder. Nothing leaves this computer."),
    opener(openFiles),
  ));
}

async function openFiles(files) {
  const [first] = files;
  if (files.length === 1 && first.type.startsWith("image/")) return current?.app.openImage?.(first);
  return show(files, files.length === 1 ? first.name : "bundle");
}

function takeDrops(open) {
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) open(files);
  });
}

/** Show one line at the bottom of the page, also for screen readers. It disappears by itself unless it is an error. */
function showStatus(text, stays = false) {
  status.textContent = text;
  status.classList.toggle("error", stays);
  clearTimeout(showStatus.timer);
  if (!stays) showStatus.timer = setTimeout(() => { status.textContent = ""; }, 6000);
}
