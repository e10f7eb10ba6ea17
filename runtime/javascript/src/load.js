/** `load()`: open a bundle as an `Autoencoder`. */

import { Autoencoder } from "./autoencoder.js";
import { readBundle } from "./bundle.js";
import { IntegrityError } from "./errors.js";
import { hostOf } from "./graph.js";
import { readSource } from "./source.js";

const CPU = ["wasm", "cpu"]; // providers whose results the tests of this package compare with torch's

/**
 * Open a bundle. Every checksum is verified; the graphs are loaded when first needed. Providers other than onnxruntime's
 * own for the CPU, such as `webgpu`, are used only after the golden vectors have passed on them.
 *
 * @param {import("./source.js").Source} source
 * @param {import("./graph.js").LoadOptions} [options]
 * @returns {Promise<Autoencoder>}
 * @throws {VaeError} the same class of error as in the Python runtime
 */
export async function load(source, options = {}) {
  const host = await hostOf(options);
  const { data, name } = await readSource(source, options.name);
  const model = new Autoencoder(await readBundle(data, name), host);
  if (!host.providers.every((provider) => CPU.includes(provider))) {
    const { ok, maxAbsError, tolerance } = await model.golden();
    if (!ok) {
      await model.close();
      const seen = `${host.providers.join(", ")} differs from torch by ${maxAbsError.toExponential(1)}`;
      throw new IntegrityError(`${name}: ${seen}, expected at most ${tolerance.toExponential()}. Use the default providers.`);
    }
  }
  return model;
}
