// Asking the service. The login is a cookie that scripts cannot read and a token that belongs to this origin alone.

const TOKEN = "pantry-token";

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Trade the code behind the # for a login, and take it out of the address and the history. */
export async function logInFromAddress() {
  const code = location.hash.slice(1);
  if (code.length < 40) return;
  history.replaceState(null, "", location.pathname);
  const answer = await ask("POST", "login", { code });
  localStorage.setItem(TOKEN, answer.token);
}

export async function logOut() {
  try {
    await ask("POST", "logout", {});
  } finally {
    localStorage.removeItem(TOKEN);
  }
}

/** One call. Throws Refused with a sentence for the user; status 0 means that nobody answered. */
export async function ask(method, path, body) {
  const headers = { "X-Pantry-Page": localStorage.getItem(TOKEN) ?? "" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, credentials: "same-origin", redirect: "error", cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused("Pantry does not answer. It may have been stopped.", 0);
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // Told below by its status.
  }
  if (!response.ok) {
    throw new Refused(answer?.error?.message ?? `Pantry answered with status ${response.status}.`, response.status);
  }
  return answer;
}
