/**
 * Who may decode when. Every picture on the page is a view: a function from the state to codes, and one
 * that paints the images. One decode runs at a time; a view always asks for the newest state, so however
 * fast a slider moves, nothing queues up. The lowest rank goes first, and within it who was painted
 * longest ago: labels that are cheap do not keep a grid waiting that is not.
 */

const BUDGET = 9; // ms of decoding in one turn: leaves a 60 Hz frame its time to paint
const LARGEST = 128; // codes in one decode

/**
 * @param model  the engine's
 * @param store  see store.js
 * @param tell  { error(thrown), busy(boolean) }
 */
export function createFrames(model, store, tell) {
  const views = [];
  const endings = [];
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
      for (let began = performance.now(), view; (view = nextOf(views)); ) {
        await advance(view);
        if (performance.now() - began < BUDGET) continue;
        await new Promise(requestAnimationFrame);
        began = performance.now();
      }
    } catch (error) {
      for (const view of views) view.stale = view.job = null;
      tell.error(error);
    }
    running = false;
    tell.busy(false);
  }

  /** Decode the view's next chunk; paint once all of them are there. */
  async function advance(view) {
    view.job ??= ask(view);
    const { job } = view;
    if (!job) return;
    const dim = model.latentDim;
    const count = Math.min(job.n - job.done, Math.max(1, Math.min(LARGEST, Math.round(BUDGET / timing.image))));
    const codes = job.z.subarray(job.done * dim, (job.done + count) * dim);
    const labels = job.labels instanceof Int32Array ? job.labels.subarray(job.done, job.done + count) : job.labels;
    const began = performance.now();
    const images = await model.decode(codes, labels);
    measure(performance.now() - began, count);
    job.images.set(images, job.done * model.image.size);
    job.done += count;
    if (job.done < job.n) return;
    view.job = null;
    view.last = job;
    view.painted = performance.now();
    view.paint(job.images, job);
  }

  /** What the view wants decoded now; null where that is nothing, or what it already shows. */
  function ask(view) {
    view.stale = false;
    const { z, labels = null } = view.codes(store.get()) ?? {};
    if (!z || (view.last && same(view.last.z, z) && same(view.last.labels, labels))) return null;
    const n = z.length / model.latentDim;
    return { z, labels, n, done: 0, images: new Float32Array(n * model.image.size) };
  }

  function measure(elapsed, count) {
    const mix = (old, now) => (old === null ? now : old + 0.15 * (now - old));
    timing.image = mix(timing.image, elapsed / count);
    if (count === 1) timing.one = mix(timing.one, elapsed);
  }

  return {
    timing,

    /**
     * Show something. `element`: decoded only while it is near the screen; `reads`: keys of the state;
     * `codes(state)` → { z: Float32Array[n·D], labels } or null; `paint(images, { z, labels, n })`;
     * `rank`: 0 for the image itself, 1 unless said, 2 for what may wait.
     */
    add(view) {
      views.push({ rank: 1, painted: 0, seen: false, stale: true, job: null, last: null, ...view });
      const own = views.at(-1);
      watcher.observe(view.element);
      store.on(view.reads, () => {
        own.stale = true;
        wake();
      });
    },

    /** Call `last` when the page of this model ends. */
    onStop: (last) => endings.push(last),

    /** No more decoding: the model is about to be closed. */
    stop() {
      watcher.disconnect();
      views.length = 0;
      for (const last of endings) last();
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

/** Run the newest call of `work`; calls that come while one runs replace each other. */
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
