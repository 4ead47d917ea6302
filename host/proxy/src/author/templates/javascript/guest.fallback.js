// Answers 503 in place of the upstream, with the reason, and `Retry-After` from the setting `retry-after` (default 5).

import { failureDetail } from "fusebox:policy/attempt@0.1.0";
import { get } from "fusebox:policy/settings@0.1.0";

export const fallback = {
  // `null` would decline: the original outcome would go out.
  respond(outcome) {
    const reason = outcome.tag === "response" ? `status ${outcome.val}` : failureDetail();
    return {
      status: 503,
      headers: [
        { name: "content-type", value: "text/plain; charset=utf-8" },
        { name: "retry-after", value: String(retryAfter()) },
      ],
      body: { tag: "text", val: `the upstream failed: ${reason}\n` },
    };
  },
};

// Settings don't change while an instance lives, so each is read once: at the first call, since the top level of a module runs
// when the component is built, where there are none.
const retryAfter = once(() => integer("retry-after", 5));

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

// Thrown, it ends the call: the host logs its message, and the original outcome goes out.
class SettingError extends Error {
  constructor(name, expected, found) {
    super(`setting \`${name}\`: expected ${expected}, found \`${found}\``);
    this.name = "SettingError";
  }
}
