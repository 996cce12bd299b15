// Which page is shown: the address says it, with its filters, so that it can be bookmarked and gone back from.
const VIEWS = { resources, keys, users, usage, requests, settings, audit, "admin-keys": adminKeys };

const here = () => {
  const [name, rest] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: VIEWS[name] ? name : "resources", params: Object.fromEntries(new URLSearchParams(rest)) };
};

// What a button does may be refused; that is said where everything else is.
const opening = (work) => async () => {
  try {
    await work();
    trouble("");
  } catch (error) {
    if (at("sheet").open) at("sheet").close();
    failed(error);
  }
};

const trouble = (text) => {
  const place = at("trouble");
  // Said once, not at every try.
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
};

const failed = (error) => {
  if (error.status === 401) memory.key = null;
  const wrong = (error.wrong || []).map(({ pointer, detail }) => pointer + ": " + detail);
  trouble([error.message, ...wrong].join("\n"));
  if (error.status === 401) draw();
};

const pager = (page, params) => make("p", { class: "actions" },
  params.cursor ? button("Newest", "newest", () => { const { cursor, ...rest } = params; move(rest); }, "") : null,
  page.next_cursor ? button("Older", "older", () => move({ ...params, cursor: page.next_cursor }), "") : null);

let drawn = {};
let timer;
let turn = 0;

// Before anything is drawn: what is offered depends on it.
const identify = async () => {
  clearTimeout(timer);
  const mine = (turn += 1);
  try {
    const found = await ask("/me");
    if (mine !== turn) return;
    who = found;
    trouble("");
    draw();
  } catch (error) {
    if (mine !== turn) return;
    failed(error);
    if (memory.key) timer = setTimeout(identify, 3000);
  }
};

const move = (params) => { location.hash = "#/" + here().name + query(params); };

const draw = () => {
  const signed = Boolean(memory.key);
  at("enter").hidden = signed;
  at("leave").hidden = !signed;
  at("places").hidden = at("whom").hidden = !signed || !who;
  if (!signed) {
    clearTimeout(timer);
    turn += 1;
    drawn = {};
    who = null;
    at("controls").replaceChildren();
    at("content").replaceChildren();
    if (at("sheet").open) at("sheet").close();
    document.title = "aoai-gateway";
    at("key").focus();
    return;
  }
  if (!who) {
    identify();
    return;
  }
  const { name, params } = here();
  at("whom").textContent = who.name;
  at("whom").title = "May: " + who.scopes.map((scope) => MAY[scope]).join("; ");
  at("places").replaceChildren(...Object.entries(VIEWS).filter(([, view]) => !view.needs || may(view.needs)).map(([one, view]) => make("a", { href: "#/" + one, "aria-current": one === name ? "page" : null }, view.title)));
  document.title = VIEWS[name].title + " · aoai-gateway";
  const filters = query({ ...params, cursor: "" });
  if (drawn.name !== name || drawn.filters !== filters) {
    // A filter drops the cursor: it belongs to another list.
    const go = (change) => { const { cursor, ...rest } = here().params; drawn.filters = query({ ...rest, ...change }); move({ ...rest, ...change }); };
    const { title, needs, controls } = VIEWS[name];
    at("controls").replaceChildren(make("div", { class: "bar" }, !needs || may(needs) ? controls(params, go) : make("h2", null, title)));
  }
  if (drawn.name !== name) {
    at("content").replaceChildren(make("div", { class: "empty" }, "Loading …"));
    said("");
  }
  drawn = { name, filters };
  refresh();
};

const refresh = async () => {
  clearTimeout(timer);
  const mine = (turn += 1);
  const { name, params } = here();
  const view = VIEWS[name];
  try {
    const [data, { refused }] = await Promise.all([view.load(params), ask("/settings")]);
    if (mine !== turn) return;
    const mark = document.activeElement && document.activeElement.dataset.mark;
    at("content").replaceChildren(...view.show(data, params));
    if (!at("sheet").open) marked(mark)?.focus();
    trouble(refused ? "Newer settings were refused; those before them stay in force.\n" + refused.join("\n") : "");
  } catch (error) {
    if (mine !== turn) return;
    failed(error);
    if (error.status && error.status !== 401) at("content").replaceChildren();
    if (!memory.key) return;
  }
  const pause = document.hidden ? 30000 : view.every || 30000;
  timer = setTimeout(refresh, pause);
};

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  memory.key = at("key").value.trim();
  at("key").value = "";
  trouble("");
  draw();
  at("view").focus();
});
at("leave").addEventListener("click", () => { memory.key = null; trouble(""); draw(); });
at("skip").addEventListener("click", (event) => { event.preventDefault(); at("view").focus(); });
window.addEventListener("hashchange", () => {
  if (at("sheet").open) at("sheet").close();
  draw();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && who) refresh(); });
draw();
