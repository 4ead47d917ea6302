// Waits for as long as a response with the status of the setting `status` (default 429) says in its header `x-wait-ms`, in
// place of the policy's own delay.

import { responseHeader } from "fusebox:policy/attempt@0.1.0";
import { get } from "fusebox:policy/settings@0.1.0";

export const delay = {
  after(outcome, ownMs, count) {
    if (outcome.tag !== "response" || outcome.val !== status()) return { tag: "own" };
    const wait = responseHeader("x-wait-ms");
    return wait !== null && /^[0-9]{1,9}$/.test(wait) ? { tag: "wait", val: Number(wait) } : { tag: "own" };
  },
};

// Settings don't change while an instance lives, so each is read once: at the first call, since the top level of a module runs
// when the component is built, where there are none.
const status = once(() => integer("status", 429));

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

// Thrown, it ends the call: the host logs its message, and the policy's own delay holds.
class SettingError extends Error {
  constructor(name, expected, found) {
    super(`setting \`${name}\`: expected ${expected}, found \`${found}\``);
    this.name = "SettingError";
  }
}
