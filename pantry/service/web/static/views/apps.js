// The apps with what they may do, and the loaded models.

import { meaning } from "./requests.js";
import { ago, bytes, count, fromNow, make } from "../lib/words.js";

/** The card of one app. `act(method, path, body, said)` changes it; `sure(title, text, verb)` asks first. */
export function appCard(app, act, sure) {
  const path = `/admin/apps/${encodeURIComponent(app.id)}`;
  const rights = Object.entries(app.grants);
  const remove = async () => {
    if (await sure(`Remove ${app.name}?`, "Its key stops working at once. Its questions and conversations are deleted.", "Remove")) {
      await act("DELETE", path, undefined, `${app.name} was removed.`);
    }
  };
  const forget = async () => {
    if (await sure(`Delete the conversations of ${app.name}?`, `${count(app.sessions.count, "conversation is", "conversations are")} deleted for good.`, "Delete")) {
      await act("DELETE", `${path}/sessions`, undefined, `The conversations of ${app.name} were deleted.`);
    }
  };
  return make("li", { class: "card", "data-id": app.id },
    make("div", { class: "head" },
      make("h3", {}, app.name),
      make("button", { type: "button", class: "quiet", "data-verb": "remove", "aria-label": `Remove ${app.name}`, onclick: remove }, "Remove")),
    make("p", { class: "foot" },
      app.origin ? `Web page ${app.origin} · ` : null,
      app.last_seen ? ["Last seen ", ago(app.last_seen)] : "Not seen yet", " · added ", ago(app.created_at)),
    rights.length
      ? make("ul", { class: "grants" }, rights.map(([name, grant]) => grantLine(app, name, grant, path, act)))
      : make("p", {}, "It may do nothing yet."),
    usage(app, path, act),
    app.sessions.count
      ? make("p", { class: "line" }, `${count(app.sessions.count, "conversation", "conversations")}${app.sessions.size ? `, ${bytes(app.sessions.size)}` : ""}`,
        make("button", { type: "button", class: "quiet small", "data-verb": "forget", "aria-label": `Delete the conversations of ${app.name}`, onclick: forget }, "Delete"))
      : null);
}

function grantLine(app, name, grant, path, act) {
  const ended = grant.expires_at !== null && grant.expires_at * 1000 <= Date.now();
  const limits = [
    grant.models.includes("*") ? null : `only ${grant.models.join(", ")}`,
    grant.expires_at === null ? null : `${ended ? "ended" : "ends"} ${fromNow(grant.expires_at)}`,
  ].filter(Boolean).join("; ");
  return make("li", { class: ended ? "ended" : name === "superuser" ? "danger-text" : null },
    make("span", {}, `May ${meaning(name)}`, limits ? make("small", {}, ` (${limits})`) : null),
    make("button", {
      type: "button", class: "quiet small", "data-verb": `withdraw-${name}`,
      "aria-label": `Take away from ${app.name}: ${meaning(name)}`,
      onclick: () => act("POST", `${path}/withdraw`, { permissions: [name] }, `${app.name} may no longer ${meaning(name)}.`),
    }, "Take away"));
}

function usage(app, path, act) {
  const input = make("input", {
    type: "number", min: 0, max: 1e15, name: "tokens", inputmode: "numeric", value: app.tokens_per_day, placeholder: "no limit",
    "aria-label": `Tokens a day for ${app.name}; empty for no limit`,
  });
  const save = (event) => {
    event.preventDefault();
    const tokens = input.value === "" ? null : Math.round(Number(input.value));
    const said = tokens === null ? `${app.name} has no limit now.` : `${app.name} may use ${count(tokens, "token", "tokens")} a day.`;
    act("POST", `${path}/limit`, { tokens_per_day: tokens }, said);
  };
  return make("form", { class: "line", onsubmit: save },
    make("span", {}, `${count(app.used_today, "token", "tokens")} today. Limit a day: `), input,
    make("button", { class: "quiet small", "data-verb": "limit", "aria-label": `Set the limit of ${app.name}` }, "Set"));
}

export function modelCard(model, act) {
  const left = model.state === "loading" ? "is being loaded"
    : model.active ? `answers ${count(model.active, "request", "requests")} now${model.waiting ? `, ${model.waiting} wait` : ""}`
    : model.pinned ? "stays until you unload it"
    : model.unloads_in === null ? "unused; stays until the memory is needed" : `unused; goes ${fromNow(Date.now() / 1000 + model.unloads_in)}`;
  const unload = () => act("POST", "/admin/unload", { model: model.name }, `${model.name} was unloaded.`);
  return make("li", { class: "card", "data-id": model.name },
    make("div", { class: "head" },
      make("h3", {}, model.name),
      make("button", { type: "button", class: "quiet", "data-verb": "unload", "aria-label": `Unload ${model.name}`, onclick: unload }, "Unload")),
    make("p", { class: "foot" }, `${bytes(model.memory)} of memory · ${left}`));
}
