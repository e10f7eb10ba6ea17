/**
 * Open a bundle from a stored `.zip` or from files by name. The sha256 of each file is checked on the same bytes that
 * onnxruntime loads.
 */

import { concat, decodeUtf8, sha256 } from "./bytes.js";
import { InputError, IntegrityError, LimitError, NotFound } from "./errors.js";
import { parseJson } from "./json.js";
import { NAME, readManifest } from "./manifest.js";
import { readMetadata, SPEC_KEY } from "./onnx.js";
import { BadZip, readDirectory } from "./zip.js";

const MAX_BYTES = 2 ** 30;
const MAX_FILES = 1000;
const IGNORED = ["README.md", "LICENSE"];

/**
 * @typedef {Map<string, Uint8Array>} Files
 * @typedef {object} Bundle
 * @property {string} name
 * @property {import("./manifest.js").Manifest} manifest
 * @property {Files} files
 */

/**
 * @param {Uint8Array | Record<string, Uint8Array>} source a stored zip, or files by name
 * @param {string} name begins every error message
 * @returns {Promise<Bundle>}
 * @throws {InputError} not a bundle, or one that contradicts itself
 * @throws {IntegrityError} the bytes differ from those that were exported
 * @throws {LimitError} more than 1 GiB
 * @throws {NotFound} a file is missing
 */
export async function readBundle(source, name) {
  // File managers leave dot files in folders.
  const files = source instanceof Uint8Array
    ? await readZip(source, name)
    : new Map(Object.entries(source).filter(([file]) => !file.startsWith(".")));
  checkSize([...files.values()].reduce((sum, raw) => sum + raw.length, 0), name);
  const raw = files.get(NAME);
  if (!raw) throw new InputError(`${name}: no ${NAME} inside, so not a bundle. Expected what vae-export wrote.`);
  const manifest = await readManifest(raw, `${name}/${NAME}`);
  const listed = [...manifest.graphs.map((graph) => graph.file), manifest.golden];
  if (manifest.normality) listed.push(manifest.normality);
  const known = new Set([NAME, ...IGNORED, ...listed.map((file) => file.file)]);
  const extra = [...files.keys()].find((file) => !known.has(file));
  if (extra !== undefined) {
    throw new InputError(`${name}: holds '${extra}', which the manifest does not list. Remove it.`);
  }
  for (const file of listed) await verifyFile(files, file, name);
  const bundle = { name, manifest, files };
  for (const { file } of manifest.graphs) checkOwner(bundle, file.file);
  return bundle;
}

/** @param {Uint8Array} raw @param {string} where @returns {Promise<Files>} */
async function readZip(raw, where) {
  checkSize(raw.length, where);
  const members = await readFrame(raw, where);
  if (members.length > MAX_FILES) throw new InputError(`${where}: more than ${MAX_FILES} files in the zip`);
  const files = new Map(members.map(({ name, start, size }) => [name, raw.subarray(start, start + size)]));
  if (files.size < members.length) throw new InputError(`${where}: two files of the same name in the zip`);
  return files;
}

/**
 * Read the members and verify the bytes around their contents: the comment of a bundle's zip is the sha256 of these.
 *
 * @param {Uint8Array} raw @param {string} where
 */
async function readFrame(raw, where) {
  try {
    const { members, start: directory, comment } = readDirectory(raw);
    const frame = [];
    let at = 0;
    const packed = members.find(({ stored }) => !stored);
    if (packed) throw new InputError(`${where}: ${packed.name} is compressed, expected stored files`);
    for (const { header, start, size } of members) {
      if (header !== at) throw new BadZip("files overlap, are in another order, or have bytes between them");
      frame.push(raw.subarray(header, start));
      at = start + size;
    }
    if (directory !== at) throw new BadZip("bytes between the files and the directory");
    frame.push(raw.subarray(at, raw.length - 64));
    if (comment.length && decodeUtf8(comment) !== `sha256:${await sha256(concat(frame))}`) {
      throw new BadZip("the comment is not its checksum");
    }
    return members;
  } catch (error) {
    if (!(error instanceof BadZip || error instanceof TypeError)) throw error;
    if (String.fromCharCode(...raw.subarray(0, 4)) === "PK\x03\x04") {
      throw new IntegrityError(`${where}: cut off or damaged. Copy the file again.`);
    }
    throw new InputError(`${where}: not a zip and not a folder, so not a bundle`);
  }
}

/** @param {number} bytes @param {string} where */
function checkSize(bytes, where) {
  if (bytes > MAX_BYTES) throw new LimitError(`${where}: over ${MAX_BYTES / 2 ** 20} MB`);
}

/** @param {Files} files @param {import("./manifest.js").FileSpec} spec @param {string} name */
async function verifyFile(files, spec, name) {
  const raw = files.get(spec.file);
  if (!raw) throw new NotFound(`${name}: ${spec.file} is missing from the bundle`);
  if (raw.length !== spec.bytes || (await sha256(raw)) !== spec.sha256) {
    throw new IntegrityError(
      `${name}/${spec.file}: damaged: its bytes do not match the sha256 in the manifest. ` +
        "Copy or export the bundle again.",
    );
  }
}

/** Refuse a graph that belongs to another bundle. @param {Bundle} bundle @param {string} file */
function checkOwner({ name, manifest, files }, file) {
  const { id } = manifest.spec;
  const text = readMetadata(/** @type {Uint8Array} */ (files.get(file)), `${name}/${file}`).get(SPEC_KEY);
  if (text === undefined) {
    throw new InputError(`${name}/${file}: not a graph of a bundle: it carries no spec. Export it with vae-export.`);
  }
  // Writers begin the text like this. The rest is long, because it holds the prior, which the manifest has too.
  if (text.startsWith(`{"format":"${manifest.data.format}","id":${JSON.stringify(id)}`)) return;
  const own = parseJson(text, `${name}/${file}`)?.id;
  if (own !== id) throw new InputError(`${name}/${file}: belongs to bundle ${own}, expected ${id}. Export again.`);
}
