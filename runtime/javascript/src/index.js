/** The public interface of the package `vae-onnx`. */

export { load, Autoencoder } from "./autoencoder.js";
export { Decoder, Encoder, Sampler } from "./graph.js";
export { toCanvas, toImageData, toPNG } from "./pictures.js";
export { InputError, IntegrityError, LimitError, NotFound, StateError, UsageError, VaeError } from "./errors.js";
