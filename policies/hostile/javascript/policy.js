// Misdeeds by the path of the request; a predicate that takes everything else.

import { pathWithQuery } from "fusebox:policy/attempt@0.1.0";

const MISDEEDS = {
  "/loops": () => {
    for (;;);
  },
  "/recurses": function deep() {
    return deep() + 1;
  },
  "/grows": () => {
    const all = [];
    for (;;) all.push(new Uint8Array(1 << 20).fill(1));
  },
  "/throws": () => {
    throw new TypeError("on purpose");
  },
  "/is-slow-text": () => /^(a+)+$/.test("a".repeat(64) + "!"),
};

export const predicate = {
  handleIf(_outcome) {
    MISDEEDS[pathWithQuery()]?.();
    return true;
  },
};
