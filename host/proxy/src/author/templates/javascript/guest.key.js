// Tells calls apart by the beginning of their path: as many segments as the setting `segments` says (default 1). A shorter path
// is nobody's.

import { pathWithQuery } from "fusebox:policy/attempt@0.1.0";
import { get } from "fusebox:policy/settings@0.1.0";

export const key = {
  key() {
    const [path] = pathWithQuery().split("?");
    const all = path.split("/").filter((segment) => segment !== "");
    return all.length < segments() ? undefined : all.slice(0, segments()).join("/");
  },
};

// Settings don't change while an instance lives, so each is read once: at the first call, since the top level of a module runs
// when the component is built, where there are none.
const segments = once(() => integer("segments", 1));

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

// Thrown, it ends the call: the host logs its message, and the call has no key.
class SettingError extends Error {
  constructor(name, expected, found) {
    super(`setting \`${name}\`: expected ${expected}, found \`${found}\``);
    this.name = "SettingError";
  }
}
