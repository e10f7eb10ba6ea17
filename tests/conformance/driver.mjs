/**
 * The JavaScript reader's verdict on each bundle of the corpus.
 *
 *   node driver.mjs PATHS.json    a JSON array of zips and folders
 *
 * Prints a JSON array of { path, verdict, message }. The verdict is `accept`, or the name of the error. Bundles are
 * opened and their golden vectors read; no graph is run.
 */

import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readBundle } from "../../runtime/javascript/src/bundle.js";
import { readGolden } from "../../runtime/javascript/src/golden.js";

/** The bytes of a zip, or of each file in a folder, as a page is given them. */
function read(path) {
  if (!lstatSync(path).isDirectory()) return new Uint8Array(readFileSync(path));
  return Object.fromEntries(readdirSync(path).map((name) => [name, new Uint8Array(readFileSync(join(path, name)))]));
}

async function judge(path) {
  try {
    await readGolden(await readBundle(read(path), path));
    return { path, verdict: "accept", message: "" };
  } catch (error) {
    return { path, verdict: error.name, message: error.message };
  }
}

const verdicts = [];
for (const path of JSON.parse(readFileSync(process.argv[2], "utf8"))) verdicts.push(await judge(path));
process.stdout.write(JSON.stringify(verdicts));
