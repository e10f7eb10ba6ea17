/** Opening a bundle: every file's sha256 is checked over the bytes that onnxruntime is given. */

import { readFiles } from "./archive.js";
import { sha256 } from "./digest.js";
import { InputError, IntegrityError, NotFound } from "./errors.js";
import { NAME, readManifest } from "./manifest.js";

/**
 * @typedef {object} Bundle
 * @property {string} name
 * @property {import("./manifest.js").Manifest} manifest
 * @property {import("./archive.js").Files} files
 */

/**
 * @param {Uint8Array | Record<string, Uint8Array>} source a stored zip, or files by name
 * @param {string} name begins every error message
 * @returns {Promise<Bundle>}
 * @throws {InputError} not a bundle, or one that lies
 * @throws {IntegrityError} bytes that are not those that were exported
 * @throws {NotFound} a file is missing
 */
export async function readBundle(source, name) {
  const files = await readFiles(source, name);
  const raw = files.get(NAME);
  if (!raw) throw new InputError(`${name}: no ${NAME} inside, so not a bundle. Expected what vae-export wrote.`);
  const manifest = await readManifest(raw, `${name}/${NAME}`);
  const specs = [...manifest.graphs.map((graph) => graph.file), manifest.golden];
  const known = new Set([NAME, ...specs.map((spec) => spec.file)]);
  const extra = [...files.keys()].find((file) => !known.has(file));
  if (extra !== undefined) {
    throw new InputError(`${name}: holds '${extra}', which the manifest does not list. Remove it.`);
  }
  for (const spec of specs) await check(files, spec, name);
  return { name, manifest, files };
}

/**
 * @param {import("./archive.js").Files} files
 * @param {import("./manifest.js").FileSpec} spec
 * @param {string} name
 */
async function check(files, spec, name) {
  const raw = files.get(spec.file);
  if (!raw) throw new NotFound(`${name}: ${spec.file} is missing from the bundle`);
  if (raw.length !== spec.bytes || (await sha256(raw)) !== spec.sha256) {
    throw new IntegrityError(
      `${name}/${spec.file}: damaged: its bytes do not match the sha256 in the manifest. ` +
        "Copy or export the bundle again.",
    );
  }
}
