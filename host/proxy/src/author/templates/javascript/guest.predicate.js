// Takes a response for a failure if it has the status of the setting `status` (default 503) and says when to come back.

import { responseHeader } from "fusebox:policy/attempt@0.1.0";
import { get } from "fusebox:policy/settings@0.1.0";

export const predicate = {
  handleIf(outcome) {
    return outcome.tag === "response" && outcome.val === status() && responseHeader("retry-after") !== null;
  },
};

// Settings don't change while an instance lives, so each is read once: at the first call, since the top level of a module runs
// when the component is built, where there are none.
const status = once(() => integer("status", 503));

function once(read) {
  let value;
  return () => (value ??= read());
}

function integer(name, otherwise) {
  const text = get(name);
  if (text === null) return otherwise;
  if (!/^[0-9]{1,9}$/.test(text)) throw new SettingError(name, "a whole number", text);
  return Number(text);
}

// Thrown, it ends the call: the host logs its message, and the `on_error` of the component decides.
class SettingError extends Error {
  constructor(name, expected, found) {
    super(`setting \`${name}\`: expected ${expected}, found \`${found}\``);
    this.name = "SettingError";
  }
}
