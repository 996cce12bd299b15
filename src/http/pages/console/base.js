"use strict";
// Elements, words and figures, and the line to the admin plane. Texts only ever become text nodes.
const at = (id) => document.getElementById(id);

const make = (tag, members, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(members || {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
};

const NONE = "–";
const number = new Intl.NumberFormat();
const figure = (value) => (value == null ? NONE : number.format(value));
const dollars = (value) => (value == null ? NONE : value !== 0 && value < 0.01 ? "$" + value.toFixed(6) : "$" + value.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 }));
const percent = (value) => (value == null ? NONE : Math.round(value * 100) + " %");
const milliseconds = (value) => (value == null ? NONE : value < 10000 ? number.format(Math.round(value)) + " ms" : number.format(Math.round(value / 100) / 10) + " s");
const moment = (text) => {
  if (!text) return NONE;
  const date = new Date(text);
  // Between day and time at most there is a new line.
  const parts = [date.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" }), date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" })];
  return make("time", { datetime: text, title: text }, parts.map((part) => part.replace(/\s/g, "\u00a0")).join(" "));
};

// A word about health or state, in a colour that only repeats what it says.
const GOOD = ["ok", "active", "settled", "served", "closed"];
const BAD = ["down", "failing", "quarantined", "revoked", "failed", "open"];
const tone = (word) => (GOOD.includes(word) ? "good" : BAD.includes(word) ? "bad" : "warn");
const state = (word) => make("span", { class: tone(word) }, word);

// The figures stand beside it, so it is nothing to be read out.
const bar = (part, whole, kind = "meter") => {
  if (!whole) return null;
  const filled = make("i");
  filled.style.width = Math.min(1, part / whole) * 100 + "%";
  return make("span", { class: kind, "aria-hidden": "true" }, filled);
};
const meter = (part, whole) => bar(part, whole, part >= whole ? "meter full" : "meter");

// Columns are { name, number, show }. The roles hold where a narrow screen turns rows into cards.
const table = (caption, columns, rows, empty) => {
  if (!rows.length) return make("div", { class: "empty" }, empty);
  const kind = (column) => (column.number ? "number" : null);
  const head = columns.map((column) => make("th", { scope: "col", role: "columnheader", class: kind(column) }, column.name));
  const body = rows.map((row) => make("tr", { role: "row" }, columns.map((column) =>
    make("td", { role: "cell", class: kind(column), "data-label": column.name }, make("div", null, column.show(row))))));
  return make("div", { class: "wide", role: "region", "aria-label": caption, tabindex: "0" }, make("table", { role: "table", "aria-label": caption },
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head)), make("tbody", { role: "rowgroup" }, body)));
};

const facts = (pairs) => make("dl", null, pairs.filter((pair) => pair[1] != null).flatMap(([name, value]) => [make("dt", null, name), make("dd", null, value)]));

// `mark` finds the button again after the list around it was drawn anew.
const button = (text, mark, work, kind = "small") => make("button", { type: "button", class: kind, "data-mark": mark, click: work }, text);

const choice = (label, value, options, changed) => {
  const all = options.map(([name, text]) => make("option", { value: name, selected: name === value }, text));
  return make("label", null, label, make("select", { change: (event) => changed(event.target.value) }, all));
};

const typed = (label, value, changed) => make("label", null, label,
  make("input", { type: "search", value, spellcheck: "false", change: (event) => changed(event.target.value.trim()) }));

// The key stays in this tab and is gone with it.
const memory = {
  get key() { return sessionStorage.getItem("key"); },
  set key(value) { value ? sessionStorage.setItem("key", value) : sessionStorage.removeItem("key"); },
};

// Who is signed in. A wider scope holds the narrower ones; what would be refused is not offered.
let who = null;
const REACH = ["read", "keys:write", "admin"];
const MAY = { read: "to look at everything but audit and admin keys", "keys:write": "to change keys and users too", admin: "everything" };
const may = (scope) => Boolean(who) && who.scopes.some((own) => REACH.indexOf(own) >= REACH.indexOf(scope));
const offered = (scope, ...children) => (may(scope) ? children : []);

const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

class Refused extends Error {
  constructor(status, problem) {
    super(sentence(problem.detail || "the gateway answered with status " + status));
    this.status = status;
    this.wrong = problem.errors || [];
  }
}

const send = async (method, path, body) => {
  const headers = { authorization: "Bearer " + memory.key };
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch("admin/v1" + path, { method, headers, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The gateway does not answer. It may be starting anew; this page goes on trying.");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401) problem.detail = "The gateway does not know this admin key, or knows it no more.";
  throw new Refused(answer.status, problem);
};

const ask = async (path) => (await send("GET", path)).json();
const tell = async (method, path, body) => {
  const answer = await send(method, path, body);
  return answer.status === 204 ? null : answer.json();
};

const query = (params) => {
  const given = Object.entries(params).filter(([, value]) => value);
  return given.length ? "?" + new URLSearchParams(given) : "";
};

const all = async (path) => {
  const rows = [];
  let cursor = "";
  do {
    const page = await ask(path + (cursor && "&cursor=" + encodeURIComponent(cursor)));
    rows.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor);
  return rows;
};

const said = (text) => { at("said").textContent = text; };

// The one dialog. The browser keeps the focus inside and closes it on Escape. The list below may have been drawn anew
// meanwhile, so the focus goes back by the opener's mark.
let opener = null;
const sheet = (title, ...children) => {
  // Whoever signed out while it was asked for does not see it.
  if (!memory.key) return;
  const parts = children.flat(Infinity).filter(Boolean);
  const form = parts.find((part) => part.tagName === "FORM");
  const heading = make("h2", { id: "sheet-title", tabindex: "-1" }, title);
  const close = form ? [] : [make("div", { class: "actions" }, button("Close", "close", () => at("sheet").close(), ""))];
  at("sheet-body").replaceChildren(heading, ...parts, ...close);
  if (!at("sheet").open) {
    opener = document.activeElement && document.activeElement.dataset.mark;
    at("sheet").showModal();
  }
  // What is filled in or read first; where there is only a question, the answer that does no harm.
  (form ? form.querySelector("input:not([disabled]), select") || form.querySelector("[data-mark=cancel]") : heading).focus();
};

const marked = (mark) => (mark ? at("view").querySelector(`[data-mark="${CSS.escape(mark)}"]`) : null);
at("sheet").addEventListener("close", () => {
  // A secret stays nowhere.
  if (!at("sheet").open) at("sheet-body").replaceChildren();
  (marked(opener) || (document.activeElement === document.body ? at("view") : null))?.focus();
});

// Asks before what cannot be undone.
const confirmed = (title, text, verb, work) => {
  const form = make("form", { submit: submitting(async () => { await work(); at("sheet").close(); }) }, make("p", null, text), formFoot(verb, "main danger"));
  sheet(title, form);
};

const formFoot = (verb, kind = "main") => [make("p", { class: "error", role: "alert" }),
  make("div", { class: "actions" }, make("button", { class: kind }, verb), button("Cancel", "cancel", () => at("sheet").close(), ""))];

// One try at a time; what is wrong is said at the field it is about, the rest below.
const submitting = (work) => async (event) => {
  event.preventDefault();
  const form = event.target;
  const go = form.querySelector("button:not([type])");
  const foot = form.querySelector("[role=alert]");
  form.querySelectorAll("[aria-invalid]").forEach((field) => { field.removeAttribute("aria-invalid"); field.nextElementSibling.textContent = ""; });
  foot.textContent = "";
  go.disabled = true;
  try {
    await work(form);
  } catch (error) {
    const rest = [];
    for (const { pointer, detail } of error.wrong || []) {
      const field = form.elements[pointer] || form.elements[pointer.replace(/\/\d+$/, "")];
      if (!field) { rest.push(pointer + ": " + detail); continue; }
      field.setAttribute("aria-invalid", "true");
      // In a form, nothing is an empty field.
      field.nextElementSibling.textContent = detail.replace("or null for", "or empty for");
    }
    foot.textContent = error.wrong && error.wrong.length ? rest.join("\n") : error.message;
    form.querySelector("[aria-invalid]")?.focus();
  } finally {
    go.disabled = false;
  }
};

// `name` is the JSON pointer by which the gateway names the member.
const field = (label, name, members = {}) => make("label", null, label, make("input", { name, "aria-describedby": "wrong" + name, autocomplete: "off", spellcheck: "false", ...members }),
  make("span", { id: "wrong" + name, class: "error" }));

const copied = (label, text) => button("Copy " + label, "copy " + label, async (event) => {
  try {
    await navigator.clipboard.writeText(text);
    event.target.textContent = "Copied";
  } catch {
    event.target.textContent = "Select the text above instead";
  }
});

const onlyTime = (secret) => [make("p", null, "This is the only time that the secret is shown; the gateway keeps a hash of it."),
  make("pre", { id: "secret", tabindex: "0" }, secret), make("div", { class: "actions" }, copied("secret", secret))];
