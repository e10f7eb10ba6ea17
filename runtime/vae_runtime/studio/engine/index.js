/** The engine: all that a page or a host needs of it. */

export { openBundle, Model } from "./model.js";
export { freshSeed } from "./counter.js";
export { interpolate, traverse } from "./latent.js";
export { pca } from "./pca.js";
export { readPoints } from "./points.js";
export { InputError, IntegrityError, LimitError, NotFound, UsageError, VaeError } from "./errors.js";
