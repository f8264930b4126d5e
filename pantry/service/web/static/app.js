// The owner's page: logs in, looks every two seconds, and shows what changed.

import { ask, logInFromAddress, logOut, Refused } from "./lib/api.js";
import { appCard, modelCard } from "./views/apps.js";
import { announcement, answeredLine, requestCard } from "./views/requests.js";
import { bytes, count, refreshTimes, visible } from "./lib/words.js";

const EVERY = 2000; // milliseconds between two looks
const HIDDEN_EVERY = 10000; // while the tab is in the background
const at = (id) => document.getElementById(id);
let known = null; // ids of the requests shown
let timer = 0;

function say(text) {
  at("said").textContent = visible(text);
}

function complain(error) {
  at("wrong").textContent = error ? visible(error.message) : "";
}

function sure(title, text, verb) {
  at("sure-title").textContent = visible(title);
  at("sure-text").textContent = visible(text);
  at("sure-yes").textContent = verb;
  const dialog = at("sure");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

/** Change something, say so, and look again at once. */
async function act(method, path, body, said) {
  try {
    complain(null);
    await ask(method, path, body);
    say(said);
  } catch (error) {
    complain(error);
  }
  await look();
}

async function answer(request, verb, body, card) {
  for (const button of card.querySelectorAll("button")) button.disabled = true;
  const said = verb === "refuse" ? `Refused: ${request.description}.` : `Allowed: ${request.description}.`;
  await act("POST", `/admin/requests/${encodeURIComponent(request.id)}/${verb}`, body ?? {}, said);
  for (const button of card.querySelectorAll("button")) button.disabled = false;
  if (!card.isConnected) (at("requests").querySelector("button") ?? at("content")).focus();
}

/** Make a list show these items: a card is made anew only when its item changed and nobody types in it. */
function show(list, items, idOf, cardOf) {
  const cards = new Map([...list.children].map((card) => [card.dataset.key, card]));
  let before = list.firstElementChild;
  for (const item of items) {
    const key = idOf(item);
    const text = JSON.stringify(item);
    let card = cards.get(key);
    cards.delete(key);
    if (!card || (card.shown !== text && !isBeingEdited(card))) {
      const fresh = cardOf(item);
      fresh.dataset.key = key;
      fresh.shown = text;
      if (card) {
        if (before === card) before = fresh;
        replaceKeepingFocus(card, fresh);
      }
      card = fresh;
    }
    if (before === card) before = card.nextElementSibling;
    else list.insertBefore(card, before);
  }
  for (const gone of cards.values()) gone.remove();
  list.hidden = !items.length;
}

function isBeingEdited(card) {
  return card.contains(document.activeElement) && document.activeElement.tagName === "INPUT";
}

function replaceKeepingFocus(old, fresh) {
  const verb = old.contains(document.activeElement) ? document.activeElement.dataset.verb : null;
  old.replaceWith(fresh);
  if (verb) fresh.querySelector(`[data-verb="${CSS.escape(verb)}"]`)?.focus();
}

function render(state) {
  const waiting = state.requests.filter((each) => each.state === "pending");
  show(at("requests"), state.requests, (each) => `${each.id} ${each.state}`, (each) => requestCard(each, answer));
  show(at("answered"), state.answered, (each) => each.id, answeredLine);
  show(at("loaded"), state.loaded.map(settled), (each) => each.name, (each) => modelCard(each, act));
  show(at("apps"), state.apps, (each) => each.id, (each) => appCard(each, act, sure));
  at("requests-empty").hidden = state.requests.length > 0;
  at("loaded-empty").hidden = state.loaded.length > 0;
  at("apps-empty").hidden = state.apps.length > 0;
  at("answered-box").hidden = state.answered.length === 0;
  at("requests-count").textContent = waiting.length ? String(waiting.length) : "";
  const used = state.loaded.reduce((sum, each) => sum + each.memory, 0);
  at("memory").textContent = state.loaded.length ? `${bytes(used)} in use; models may take ${bytes(state.budget)} together.` : "";
  const own = state.own.sessions.count ? ` · ${count(state.own.sessions.count, "conversation", "conversations")} of your own` : "";
  at("foot").textContent = state.service ? `Pantry ${state.service.version} on port ${state.service.port}${own}` : "";
  document.title = waiting.length ? `(${waiting.length}) Pantry` : "Pantry";
  const fresh = known ? waiting.filter((each) => !known.has(each.id)) : [];
  if (fresh.length) say(announcement(fresh));
  known = new Set(waiting.map((each) => each.id));
  refreshTimes();
}

/** A model without the changes that are too small to show. */
function settled(model) {
  const left = model.unloads_in === null ? null : Math.ceil(model.unloads_in / 60) * 60;
  return { ...model, unloads_in: left, memory: Math.round(model.memory / 1e6) * 1e6 };
}

function openDoor(open, reason = "") {
  at("door").hidden = open;
  at("room").hidden = !open;
  at("logout").hidden = !open;
  at("door-reason").textContent = visible(reason);
  if (!open) document.title = "Pantry: not logged in";
}

async function look() {
  clearTimeout(timer);
  try {
    const state = await ask("GET", "/admin/overview");
    openDoor(true);
    render(state);
    at("connection").textContent = "";
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) {
      openDoor(false);
      return;
    }
    at("connection").textContent = visible(error.message);
  }
  timer = setTimeout(look, document.hidden ? HIDDEN_EVERY : EVERY);
}

async function begin() {
  let reason = "";
  try {
    await logInFromAddress();
  } catch (error) {
    reason = error.message;
  }
  await look();
  if (reason && at("room").hidden) openDoor(false, reason);
}

at("logout").addEventListener("click", async () => {
  try {
    await logOut();
  } catch (error) {
    complain(error);
  }
  await look();
});
document.addEventListener("visibilitychange", () => document.hidden || at("room").hidden || look());
window.addEventListener("hashchange", begin);
begin();
