/** The public interface of the package `vae-onnx`. */

export { Autoencoder } from "./autoencoder.js";
export { load } from "./load.js";
export { Decoder, Encoder, Sampler } from "./graph.js";
export { toCanvas, toImageData, toPNG } from "./pictures.js";
export { InputError, IntegrityError, LimitError, NotFound, StateError, UsageError, VaeError } from "./errors.js";
