// What apps ask for, with the buttons to answer.

import { ago, bytes, count, make } from "../lib/words.js";

const MEANINGS = {
  session: "write with models (generate text, keep conversations)",
  view: "see which models are installed",
  load: "load models into memory without asking",
  unload: "take models out of memory without asking",
  download: "download models without asking",
  "request-load": "ask you to load a model",
  "request-unload": "ask you to unload a model",
  "request-download": "ask you to download a model",
  "bare-model": "read the files of models",
  superuser: "do everything that you can do here",
};

export function meaning(permission) {
  return MEANINGS[permission] ?? permission;
}

/** The card of one request. `answer(request, verb, body)` sends the user's answer. */
export function requestCard(request, answer) {
  if (request.state === "approved") return runningCard(request);
  const asksRights = request.kind === "permission";
  const asksAll = asksRights && request.details.permissions.includes("superuser");
  const form = make("form", { novalidate: true });
  const send = (verb, body) => answer(request, verb, body, card);
  const button = (text, kind, verb, always) =>
    make("button", {
      type: "button", class: kind, "data-verb": always ? "always" : verb, "aria-describedby": `what-${request.id}`,
      onclick: () => send(verb, verb === "approve" ? { ...limitsOf(form), ...(always ? { always } : {}) } : undefined),
    }, text);
  form.append(
    make("div", { class: "buttons" },
      button(asksRights ? "Allow" : "Allow once", asksAll ? "danger" : "primary", "approve", false),
      asksRights ? null : button("Always allow", "", "approve", true),
      button("Refuse", "quiet", "refuse", false)),
    limitFields(request));
  form.addEventListener("submit", (event) => event.preventDefault());
  const card = make("li", { class: "card", "data-id": request.id },
    make("p", { class: "what", id: `what-${request.id}` }, request.description + "."),
    asksRights ? rightsList(request.details.permissions) : null,
    request.reason ? make("p", { class: "reason" }, "It says: ", make("q", {}, request.reason)) : null,
    make("p", { class: "foot" }, "Asked ", ago(request.created_at)),
    form);
  return card;
}

function rightsList(permissions) {
  return make("ul", { class: "rights" }, permissions.map((name) =>
    make("li", { class: name === "superuser" ? "danger-text" : null },
      meaning(name), name === "superuser" ? " – refuse this unless you are sure" : "")));
}

function limitFields(request) {
  const field = (name, label, hint, attributes) => make("label", {},
    make("span", {}, label), make("input", { name, ...attributes, "aria-describedby": `${name}-${request.id}` }),
    make("small", { id: `${name}-${request.id}` }, hint));
  return make("details", { class: "limits" },
    make("summary", {}, "Limits"),
    make("div", { class: "fields" },
      field("models", "Models", request.kind === "permission" ? "Names like qwen3*, with commas between. Empty: any model."
        : "For “Always allow”. Names like qwen3*, with commas between. Empty: this model.",
        { type: "text", autocomplete: "off", spellcheck: "false" }),
      field("days", "Days", "How long it holds. Empty: until you take it away.", { type: "number", min: 1, max: 36500, inputmode: "numeric" }),
      field("tokens", "Tokens a day", "A token is about three quarters of a word. Empty: as it is now.", { type: "number", min: 0, inputmode: "numeric" })));
}

function limitsOf(form) {
  const fields = form.elements;
  const limits = {};
  const models = fields.models.value.split(",").map((each) => each.trim()).filter(Boolean);
  if (models.length) limits.models = models;
  if (fields.days.value) limits.days = Number(fields.days.value);
  if (fields.tokens.value) limits.tokens_per_day = Math.round(Number(fields.tokens.value));
  return limits;
}

function runningCard(request) {
  const { progress } = request;
  return make("li", { class: "card", "data-id": request.id },
    make("p", { class: "what" }, request.description + "."),
    make("p", { class: "foot" }, progress ? `Allowed. ${bytes(progress.done)} of ${bytes(progress.total)}.` : "Allowed. It is being done."),
    make("progress", progress && progress.total ? { max: progress.total, value: progress.done, "aria-label": "Download" } : { "aria-label": "Being done" }));
}

const STATES = { done: "allowed", refused: "refused", failed: "allowed, but it failed" };

export function answeredLine(request) {
  const failed = request.state === "failed" ? `: ${request.outcome}` : "";
  return make("li", { class: request.state },
    make("span", {}, request.description), " – ", make("strong", {}, STATES[request.state] + failed));
}

export function announcement(requests) {
  return requests.length === 1 ? `New: ${requests[0].description}.` : `${count(requests.length, "new request", "new requests")}.`;
}
