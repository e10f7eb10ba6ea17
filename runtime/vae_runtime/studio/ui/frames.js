/**
 * Schedules all decoding. Every canvas on the page is a view, with a function from the state to the latents to decode.
 * One decode runs at a time, and a view always decodes the newest state, so nothing queues up however fast a slider
 * moves. The lowest rank goes first and, within a rank, the view that was painted longest ago, so that views that are
 * quick to decode do not keep a slow grid waiting.
 */

import { paintSheet } from "./pixels.js";

const BUDGET = 9; // ms of decoding per frame, which leaves a 60 Hz frame time for layout and paint
const MAX_BATCH = 128; // images per decode

/**
 * @param model  the engine's model
 * @param store  see store.js
 * @param tell  callbacks { error(thrown), busy(boolean) }
 */
export function createFrames(model, store, tell) {
  const views = [];

  const timing = { one: null, image: 1 };
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      for (const view of views) if (view.element === target) view.seen = isIntersecting;
    }
    wake();
  }, { rootMargin: "200px" });
  let running = false;

  function wake() {
    if (running) return;
    running = true;
    tell.busy(true);
    requestAnimationFrame(pump);
  }

  async function pump() {
    try {
      for (let end = performance.now() + BUDGET, view; (view = nextOf(views)); ) {
        // A batch that would end too late waits for the next frame, but one image per frame is always decoded.
        await advance(view, end - performance.now());
        if (performance.now() + timing.image < end) continue;
        await new Promise(requestAnimationFrame);
        end = performance.now() + BUDGET;
      }
    } catch (error) {
      for (const view of views) view.stale = view.job = null;
      tell.error(error);
    }
    running = false;
    tell.busy(false);
  }

  /** Decode as much of a view as takes `left` ms; paint after its last image. */
  async function advance(view, left) {
    view.job ??= ask(view);
    const { job } = view;
    if (!job) return;
    const dim = model.latentDim;
    const count = Math.min(job.n - job.done, Math.max(1, Math.min(MAX_BATCH, Math.floor(left / timing.image))));
    const z = job.z.subarray(job.done * dim, (job.done + count) * dim);
    const labels = job.labels instanceof Int32Array ? job.labels.subarray(job.done, job.done + count) : job.labels;
    const began = performance.now();
    const first = job.done;
    const images = job.mix
      ? await model.morph(z, labels, job.mix.label, (row) => (job.mix.shares ? job.mix.shares[first + row] : job.mix.share))
      : await model.decode(z, labels);
    measure(performance.now() - began, count);
    job.images.set(images, job.done * model.image.size);
    job.done += count;
    if (job.done < job.n) return;
    view.job = null;
    view.last = job;
    if (!view.stale) view.element.classList.remove("stale");
    view.painted = performance.now();
    if (view.paint) view.paint(job.images);
    else paintSheet(view.canvas, job.images, model.image, view.columns, view.gap);
  }

  /** Make the view's next job; null if there is nothing to decode or it already shows that. */
  function ask(view) {
    view.stale = false;
    const { z, labels = null, mix = null } = view.latents(store.get()) ?? {};
    const shown = view.last && same(view.last.z, z) && same(view.last.labels, labels) && view.last.mix === mix;
    if (shown) view.element.classList.remove("stale");
    if (!z || shown) return null;
    const n = z.length / model.latentDim;
    return { z, labels, mix, n, done: 0, images: new Float32Array(n * model.image.size) };
  }

  function measure(elapsed, count) {
    const mix = (old, now) => (old === null ? now : old + 0.15 * (now - old));
    timing.image = mix(timing.image, elapsed / count);
    if (count === 1) timing.one = mix(timing.one, elapsed);
  }

  return {
    timing,

    /**
     * Show images on a canvas; by default the current image.
     *
     * @param view  { canvas, columns, gap: layout of the sheet of images,
     *   reads: keys of the state that the images depend on, latents(state) → { z: Float32Array[n·D], labels, mix: { label, share or one per row } } or null,
     *   rank: 0 for the current image, 1 by default, 2 for the last,
     *   element: the view is decoded only while this is near the screen, paint(images): replaces painting a sheet }
     */
    add(view) {
      const own = {
        element: view.canvas, reads: ["z", "label", "mix"], latents: ({ z, label, mix }) => ({ z, labels: label, mix }), rank: 1,
        painted: 0, seen: false, stale: true, job: null, last: null, ...view,
      };
      views.push(own);
      watcher.observe(own.element);
      store.on(own.reads, () => {
        own.stale = true;
        own.element.classList.toggle("stale", own.rank === 2);
        wake();
      });
    },

    /** Stop decoding, before the model is closed. */
    stop() {
      watcher.disconnect();
      views.length = 0;
    },
  };
}

function nextOf(views) {
  const waiting = views.filter((view) => view.seen && (view.stale || view.job));
  return waiting.sort((a, b) => a.rank - b.rank || a.painted - b.painted)[0];
}

function same(a, b) {
  if (a === b) return true;
  return ArrayBuffer.isView(a) && ArrayBuffer.isView(b) && a.length === b.length && a.every((v, i) => v === b[i]);
}

/** Wrap `work` so that one call runs at a time, and only the newest of the calls made meanwhile follows. */
export function newest(work) {
  let next = null;
  let busy = false;
  return async (...given) => {
    next = given;
    if (busy) return;
    busy = true;
    try {
      while (next) {
        const now = next;
        next = null;
        await work(...now);
      }
    } finally {
      busy = false;
    }
  };
}
