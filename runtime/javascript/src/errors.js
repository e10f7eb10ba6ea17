/**
 * Every error that the engine raises on purpose, with the same names and exit codes as in Python. A message is one
 * line: what was seen, what was expected, what to do.
 */

// C0 and C1 controls, line breaks and marks that reverse text: a name in a file must not fake a second line.
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g;
const MAX_LENGTH = 600;

/** @param {unknown} text @returns {string} a single line of at most 600 characters */
export function oneLine(text) {
  const line = String(text).replace(CONTROLS, " ").trim();
  return line.length <= MAX_LENGTH ? line : `${line.slice(0, MAX_LENGTH - 1)}…`;
}

export class VaeError extends Error {
  exitCode = 70;

  /** @param {unknown} message */
  constructor(message) {
    super(oneLine(message));
  }
}

/** The call is wrong: an unknown name, or a number out of range. */
export class UsageError extends VaeError {
  name = "UsageError";
  exitCode = 2;
}

/** Input was refused: malformed, hostile or unsupported. */
export class InputError extends VaeError {
  name = "InputError";
  exitCode = 3;
}

/** Bytes do not match their sha256, or numbers differ from torch's by more than the tolerance. */
export class IntegrityError extends VaeError {
  name = "IntegrityError";
  exitCode = 4;
}

/** A stated limit on size or count was reached. */
export class LimitError extends VaeError {
  name = "LimitError";
  exitCode = 5;
}

/** A file is missing. */
export class NotFound extends VaeError {
  name = "NotFound";
  exitCode = 6;
}

/** The object was closed. */
export class StateError extends VaeError {
  name = "StateError";
}
