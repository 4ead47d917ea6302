// Answers for an upstream that is down: a maintenance page in the form and the language that the client asks for.
//
// Only GET and HEAD get it. A client that changes something must see what really happened, so for other methods this
// declines, and the original outcome goes out.

import { method, requestHeader } from "fusebox:policy/attempt@0.1.0";
import { get } from "fusebox:policy/settings@0.1.0";

const TEXTS = {
  en: { title: "Down for maintenance", text: "We are working on it. Please try again later.", contact: "Contact" },
  de: { title: "Wartungsarbeiten", text: "Wir arbeiten daran. Bitte versuchen Sie es später noch einmal.", contact: "Kontakt" },
  fr: { title: "Maintenance en cours", text: "Nous y travaillons. Veuillez réessayer plus tard.", contact: "Contact" },
};

// In the order of preference: who takes anything (`*/*`) is a program and not a browser.
const FORMS = [
  { type: "application/problem+json", accepts: ["application/problem+json", "application/json"], render: problem },
  { type: "text/html; charset=utf-8", accepts: ["text/html"], render: html },
  { type: "text/plain; charset=utf-8", accepts: ["text/plain"], render: plain },
];

// Thrown, it ends the call: the host logs its message and lets the original outcome go out.
class SettingError extends Error {
  constructor(name, expected, found) {
    super(`setting \`${name}\`: expected ${expected}, found \`${found}\``);
    this.name = "SettingError";
  }
}

export const fallback = {
  respond(_outcome) {
    if (method() !== "GET" && method() !== "HEAD") return null;

    const { retryAfter, title, contact } = settings();
    const language = chooseLanguage(requestHeader("accept-language"));
    const form = chooseForm(requestHeader("accept"));
    const texts = TEXTS[language];
    const page = { ...texts, language, title: title ?? texts.title, address: contact };

    return {
      status: 503,
      headers: [
        { name: "content-type", value: form.type },
        { name: "content-language", value: language },
        { name: "retry-after", value: String(retryAfter) },
        { name: "cache-control", value: "no-store" },
        { name: "vary", value: "accept, accept-language" },
      ],
      body: { tag: "text", val: form.render(page) },
    };
  },
};

// The top level of a module runs when the component is built, where there are no settings: so they are read at the first
// call, and kept, since they don't change while an instance lives. One that is not set is `null`.
let known;
function settings() {
  known ??= { retryAfter: seconds("retry-after", 300), title: get("title"), contact: get("contact") };
  return known;
}

function seconds(name, otherwise) {
  const text = get(name);
  if (text === null) return otherwise;
  if (!/^[0-9]{1,9}$/.test(text)) throw new SettingError(name, "whole seconds", text);
  return Number(text);
}

// The first of the languages that the client likes best and that we have; `de-AT` is served by `de`.
function chooseLanguage(header) {
  for (const { value, weight } of preferences(header ?? "")) {
    const language = value.split("-")[0];
    if (weight > 0 && Object.hasOwn(TEXTS, language)) return language;
  }
  return "en";
}

// The form with the highest weight; plain text if the client takes none of them: better than nothing to read.
function chooseForm(header) {
  const ranges = preferences(header ?? "*/*");
  const weights = FORMS.map(({ accepts }) => Math.max(...accepts.map((type) => weightOf(type, ranges))));
  const best = Math.max(...weights);
  return best > 0 ? FORMS[weights.indexOf(best)] : FORMS.at(-1);
}

// The most specific range decides (RFC 9110, section 12.5.1): `text/html;q=0, */*` is anything but HTML.
function weightOf(type, ranges) {
  for (const range of [type, `${type.split("/")[0]}/*`, "*/*"]) {
    const found = ranges.find(({ value }) => value === range);
    if (found) return found.weight;
  }
  return 0;
}

// `de, en;q=0.8` as values with weights, the best first.
function preferences(header) {
  return header
    .toLowerCase()
    .split(",")
    .map((item) => {
      const [value, ...parameters] = item.split(";").map((part) => part.trim());
      const q = parameters.find((parameter) => parameter.startsWith("q="));
      return { value, weight: q === undefined ? 1 : Number(q.slice(2)) || 0 };
    })
    .sort((a, b) => b.weight - a.weight);
}

function problem({ title, text, address }) {
  return JSON.stringify({ title, status: 503, detail: text, contact: address ?? undefined });
}

function html({ language, title, text, contact, address }) {
  const line = address === null ? "" : `\n<p>${escape(contact)}: ${escape(address)}</p>`;
  return `<!doctype html>
<html lang="${language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(title)}</title>
<h1>${escape(title)}</h1>
<p>${escape(text)}</p>${line}
</html>
`;
}

function plain({ title, text, contact, address }) {
  const line = address === null ? "" : `${contact}: ${address}\n`;
  return `${title}\n\n${text}\n${line}`;
}

function escape(text) {
  const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => entities[character]);
}
