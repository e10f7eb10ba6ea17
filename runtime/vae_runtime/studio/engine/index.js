/** The public interface of the engine. */

export { openBundle, Model } from "./model.js";
export { Graph } from "./graph.js";
export { freshSeed } from "./rng.js";
export { interpolate, pca } from "./latents.js";
export { readNpz } from "./npz.js";
export { InputError, IntegrityError, LimitError, NotFound, UsageError, VaeError } from "./errors.js";
