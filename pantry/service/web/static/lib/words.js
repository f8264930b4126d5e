// Turning values into text and elements. Strangers' text only ever becomes text, and never looks like something else.

const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029\u115f\u1160\u3164\uffa0]/gu;

/** Text with every character that is invisible, or turns the direction of writing, shown as its number. */
export function visible(text) {
  return String(text).replace(UNSEEN, (char) => `‹U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

/** An element with attributes, listeners (names that begin with on) and children; texts are made visible. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child == null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return element;
}

const number = new Intl.NumberFormat("en");
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export function count(value, one, many) {
  return `${number.format(value)} ${value === 1 ? one : many}`;
}

export function bytes(value) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (value >= size) return `${(value / size).toFixed(value >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return count(value, "byte", "bytes");
}

/** A moment (RFC 3339 text, or seconds since 1970) from now: "3 minutes ago". */
export function fromNow(moment) {
  const seconds = (typeof moment === "number" ? moment : Date.parse(moment) / 1000) - Date.now() / 1000;
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return seconds < 0 ? "just now" : "in less than a minute";
}

/** A time element that says how long ago a moment (RFC 3339 text) was; kept right by refreshTimes. */
export function ago(moment) {
  return make("time", { datetime: moment }, fromNow(moment));
}

export function refreshTimes() {
  for (const element of document.querySelectorAll("time")) element.textContent = fromNow(element.dateTime);
}
