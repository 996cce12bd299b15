// The console and the docs page as an admin uses them, in a document without a browser: what the scripts do with what the
// gateway answers. Layout, colours and the browser's own policies are not seen here.
// usage: node check.mjs GATEWAY_URL ADMIN_KEY CALLER_KEY
import { createHash } from "node:crypto";
import { Window } from "happy-dom";

const [base, adminKey, callerKey] = process.argv.slice(2);
let count = 0;
const ok = (what) => { count += 1; console.log("ok " + what); };
const fail = (what) => { throw new Error(what); };

// Until it is so; what is waited for happens within milliseconds.
const until = async (what, found) => {
  const end = Date.now() + 30_000;
  for (;;) {
    const value = await found();
    if (value) return ok(what), value;
    if (Date.now() > end) fail("never: " + what + "\n" + document.body.textContent.replace(/\s+/g, " ").slice(0, 1500));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

const NAME = "made <b>here</b> " + Date.now();
const USER = "somebody <i>new</i>";

let document, window;
const open = async (path) => {
  const answer = await fetch(base + path, { headers: { accept: "text/html" } });
  const html = await answer.text();
  const policy = answer.headers.get("content-security-policy");
  for (const tag of ["script", "style"]) {
    const inside = html.split(`<${tag}>`)[1].split(`</${tag}>`)[0];
    const hash = createHash("sha256").update(inside).digest("base64");
    if (!policy.includes(`${tag}-src 'sha256-${hash}'`)) fail(`the policy does not let ${path} run its own ${tag}`);
  }
  window = new Window({ url: base + path, settings: { enableJavaScriptEvaluation: true, suppressInsecureJavaScriptEnvironmentWarning: true } });
  window.addEventListener("error", (event) => { console.log("error in the page: " + (event.error && event.error.stack || event.message)); process.exit(1); });
  // A window of happy-dom keeps answers that it is told not to keep.
  window.fetch = (path, init) => fetch(new URL(path, base + "/"), init);
  document = window.document;
  document.write(html);
  ok(path + " runs under its policy");
};

const text = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent).join("\n");
const at = (id) => document.getElementById(id);
const clicked = (words, place = document) => {
  const found = [...place.querySelectorAll("button, nav a")].find((one) => one.textContent === words) || fail("there is no button " + words);
  if (found.tagName === "A") window.location.hash = found.getAttribute("href");
  else if (found.closest("form") && !found.getAttribute("type")) found.closest("form").dispatchEvent(new window.Event("submit", { cancelable: true }));
  else found.click();
};
const typed = (name, value) => { at("sheet").querySelector("form").elements[name].value = value; };
const rowOf = (words) => [...document.querySelectorAll("#content tr")].find((row) => row.textContent.includes(words));
const chat = (key = callerKey) => fetch(base + "/v1/chat/completions", { method: "POST", headers: { authorization: "Bearer " + key },
  body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hello" }] }) });

if ((await chat()).status !== 200) fail("the demo does not answer");

await open("/");
if (at("enter").hidden || !at("places").hidden) fail("it shows something before anybody signed in");
at("key").value = "a-wrong-key-of-nobody";
clicked("Sign in");
await until("a wrong key is said in words", () => !at("trouble").hidden && at("trouble").textContent.includes("does not know this admin key"));
await until("and may be typed again", () => !at("enter").hidden);
at("key").value = adminKey;
clicked("Sign in");
await until("the resources are shown", () => text("#content h2").includes("eastus2") && text("#content td").includes("gpt-4o-mini"));
if (!at("trouble").hidden) fail("something is wrong: " + at("trouble").textContent);

clicked("Keys");
await until("the keys are listed", () => text("#content td").includes("demo"));
clicked("New key");
typed("/name", NAME);
typed("/limits/rpm", "lots");
typed("/quota/tokens", "200000");
clicked("Make key");
await until("a mistake stands at its field", () => at("wrong/limits/rpm")?.textContent.includes("or empty for"));
typed("/limits/rpm", "60");
clicked("Make key");
const secret = (await until("the secret is shown", () => at("secret"))).textContent;
if (!secret.startsWith("sk-gw-") || document.querySelector("#content b")) fail("a name became a part of the page");
clicked("Close");
await until("the list has it", () => text("#content td").includes(NAME));
clicked(NAME);
await until("its quota is shown", () => text("#sheet dd").includes("0 tokens of 200,000 tokens"));
clicked("Grant more");
typed("/tokens", "1000");
clicked("Grant");
await until("a grant counts", () => text("#sheet dd").includes("of 201,000 tokens"));
clicked("Revoke");
clicked("Revoke", at("sheet"));
await until("it is revoked", () => [...document.querySelectorAll("#content tr")].find((row) => row.textContent.includes(NAME) && row.textContent.includes("revoked")));
const refused = await fetch(base + "/v1/models", { headers: { authorization: "Bearer " + secret } });
if (refused.status !== 401) fail("a revoked key still answers " + refused.status);

clicked("Users");
await until("there may be no users, and that is said", () => text("#content .empty").includes("There are no users yet"));
clicked("New user");
typed("/name", "user_00000000-0000-7000-8000-000000000000");
clicked("Make user");
await until("a user's name is not an id", () => at("wrong/name")?.textContent.includes("must not look like one"));
typed("/name", USER);
clicked("Make user");
await until("the new user is shown, without a key", () => text("#sheet h2") === USER && text("#sheet .empty").includes("No key belongs") && text("#sheet dd").includes("none: only those of each key"));
clicked("New key", at("sheet"));
if (at("sheet").querySelector("form").elements["/user"].value !== USER) fail("the new key is nobody's");
typed("/name", "of a user");
clicked("Make key");
const owned = (await until("their key is made", () => at("secret"))).textContent;
clicked("Close");
if ((await chat(owned)).status !== 200) fail("the user's key does not answer");
clicked(USER);
await until("their keys and what they used are shown", () => text("#sheet td").includes("of a user") && text("#sheet dd").includes("1 requests"));
clicked("Change limits");
typed("/rpm", "few");
clicked("Set limits");
await until("a limit that is none is said at its field", () => at("wrong/rpm")?.textContent.includes("or empty for"));
typed("/rpm", "120");
clicked("Set limits");
await until("what their keys share is limited", () => text("#sheet dd").includes("requests/min 120") && !text("#sheet dd").includes("tokens/min"));
clicked("Set quota");
typed("/tokens", "5000");
clicked("Set quota", at("sheet").querySelector("form"));
await until("and has a quota, which the key used of", () => text("#sheet dd").match(/[1-9][0-9]* tokens of 5,000 tokens/));
clicked("of a user", at("sheet"));
await until("a key leads to its user", () => text("#sheet h2") === "of a user" && at("sheet").querySelector("[data-mark=user]"));
at("sheet").querySelector("[data-mark=user]").click();
await until("and back", () => text("#sheet h2") === USER);
clicked("Rename");
typed("/name", USER + " II");
clicked("Rename", at("sheet").querySelector("form"));
await until("they are renamed", () => text("#sheet h2") === USER + " II" && text("#content td").includes(USER + " II"));
clicked("Delete");
await until("what deleting does to their key is said", () => text("#sheet p").includes("Their key is revoked with them"));
clicked("Delete and revoke", at("sheet"));
await until("they are gone from the list", () => !at("sheet").open && text("#content .empty").includes("There are no users yet"));
if ((await chat(owned)).status !== 401) fail("a deleted user's key still answers");

clicked("Admin keys");
await until("further admin keys may be none, and that is said", () => text("#content .empty").includes("none but the first admin key"));
const adminKeyOf = async (scope) => {
  clicked("New admin key");
  typed("/name", "for " + scope);
  typed("/scopes", scope);
  clicked("Make admin key");
  const secret = (await until("the secret of " + scope + " is shown", () => at("secret"))).textContent;
  clicked("Close");
  await until(scope + " is in the list, without its secret", () => rowOf("for " + scope)?.textContent.includes("active") && !document.body.textContent.includes(secret));
  return secret;
};
const reader = await adminKeyOf("read");
const writer = await adminKeyOf("keys:write");
const spare = await adminKeyOf("admin");
clicked("Revoke", rowOf("for admin"));
clicked("Revoke", at("sheet"));
await until("an admin key is revoked", () => rowOf("for admin")?.textContent.includes("revoked") && !rowOf("for admin").querySelector("button"));
const locked = await fetch(base + "/admin/v1/keys", { headers: { authorization: "Bearer " + spare } });
if (locked.status !== 401) fail("a revoked admin key still answers " + locked.status);

clicked("Usage");
await until("usage is shown", () => text("#content td").includes("demo") && text("#content p").includes("requests"));
clicked("Requests");
await until("requests are listed", () => text("#content td").includes("chat.completions"));
document.querySelector("[data-mark^='request ']").click();
await until("a request says why it went there", () => text("#sheet td").includes("drawn"));
clicked("Close");
clicked("Settings");
await until("settings are shown with their origin", () => text("#content td").includes("routing.attempts"));
clicked("Audit");
await until("the audit is shown", () => text("#content td").includes("key.revoked"));
clicked("Sign out");
await until("signing out forgets everything", () => !at("enter").hidden && !at("content").textContent && !window.sessionStorage.getItem("key"));

// What a key with less reach sees; `offers` are all buttons of a page, once it is there.
const signIn = async (key, name) => {
  at("key").value = key;
  clicked("Sign in");
  await until(name + " is signed in", () => !at("places").hidden && at("whom").textContent === name);
};
const places = () => [...document.querySelectorAll("nav a")].map((one) => one.textContent).join(" ");
const offers = async (place, shown) => {
  clicked(place);
  await until("on " + place + " there is something", () => document.title.startsWith(place) && text("#content").includes(shown));
  return [...at("view").querySelectorAll(".bar button, #content td button.danger")].map((one) => one.textContent).join(" ");
};
const wants = (found, wanted) => { if (found !== wanted) fail(`offered: ${found}; and not: ${wanted}`); };
await signIn(reader, "for read");
wants(places(), "Resources Keys Users Usage Requests Settings");
wants(await offers("Resources", "eastus2"), "");
wants(await offers("Keys", NAME), "");
wants(await offers("Users", "There are no users"), "");
wants(await offers("Settings", "routing.attempts"), "");
clicked("Keys");
const usable = await until("a key is there to be looked at", () => rowOf("active")?.querySelector("button"));
usable.click();
await until("who may only look is offered nothing else", () => at("sheet").open && text("#sheet dd").includes("active"));
wants([...at("sheet").querySelectorAll("button:not(.link)")].map((one) => one.textContent).join(" "), "Close");
clicked("Close");
window.location.hash = "#/admin-keys";
await until("and is told so where they go all the same", () => at("trouble").textContent.includes("lacks the scope `admin`"));
if (at("view").querySelector(".bar button")) fail("they are offered to make one");
clicked("Sign out");
await until("they leave", () => !at("enter").hidden && at("whom").hidden);
await signIn(writer, "for keys:write");
wants(places(), "Resources Keys Users Usage Requests Settings");
wants(await offers("Resources", "eastus2"), "");
wants(await offers("Keys", NAME), "New key");
wants(await offers("Users", "There are no users"), "New user");
wants(await offers("Settings", "routing.attempts"), "");
await window.happyDOM.abort();

await open("/docs");
await until("every operation is described", () => document.querySelectorAll("details").length > 50);
if (!text("details").includes("limits.rpm") || !text("code").includes("/admin/v1/keys/{id}")) fail("inner members are missing");
await window.happyDOM.abort();
console.log(count + " checks");
