// Users: whom keys belong to, what their keys share and have used; made, renamed, limited, deleted.
const tokensOf = (one) => one.input_tokens + one.output_tokens;
const summed = (rows) => rows.reduce((sum, one) => ({ requests: sum.requests + one.requests, tokens: sum.tokens + tokensOf(one), cost_usd: sum.cost_usd + one.cost_usd }), { requests: 0, tokens: 0, cost_usd: 0 });
const SUMS = [{ name: "Requests", number: true, show: ({ sum }) => figure(sum.requests) }, { name: "Tokens", number: true, show: ({ sum }) => figure(sum.tokens) },
  { name: "Cost", number: true, show: ({ sum }) => dollars(sum.cost_usd) }];

// A user inherits no default: what is not set is not limited.
const OWN_ONLY = "none: only those of each key";
const together = ({ rpm, tpm, concurrency }) => {
  const parts = [["requests/min", rpm], ["tokens/min", tpm], ["at once", concurrency]].filter(([, value]) => typeof value === "number");
  return parts.length ? parts.map(([name, value]) => name + " " + figure(value)).join(", ") : OWN_ONLY;
};

const nameUser = (title, verb, value, work) => sheet(title, make("form", { submit: submitting((form) => work(form.elements["/name"].value.trim())) },
  field("Name", "/name", { value, required: true, maxlength: "200" }), formFoot(verb)));

const newUser = () => nameUser("New user", "Make user", null, async (name) => {
  const user = await tell("POST", "/users", { name });
  refresh();
  await showUser(user.id);
});

const renameUser = (user, done) => nameUser("Rename “" + user.name + "”", "Rename", user.name, async (name) => {
  await tell("PATCH", "/users/" + user.id, { name });
  done();
});

const limitUser = (user, limits, done) => sheet("Limits of all keys of “" + user.name + "”", make("form", { submit: submitting(async (form) => {
  await tell("PUT", "/users/" + user.id + "/limits", limitsOf(form, ""));
  done();
}) }, limitFields("Together, beside the limits of each key (empty: none)", "", limits), formFoot("Set limits")));

const deleteUser = (user) => {
  const count = user.keys === 1 ? "Their key is" : "Their " + figure(user.keys) + " keys are";
  const text = (user.keys ? count + " revoked with them and refused from now on. " : "") + "What they used stays in the books, and the name is free again.";
  const verb = user.keys ? "Delete and revoke" : "Delete";
  confirmed("Delete “" + user.name + "”?", text, verb, async () => {
    await tell("DELETE", "/users/" + user.id + (user.keys ? "?keys=revoke" : ""));
    said("“" + user.name + "” is deleted");
    refresh();
  });
};

const showUser = async (id) => {
  const path = "/users/" + id;
  const [user, quota, limits, owned, { data }] = await Promise.all([ask(path), ask(path + "/quota"), ask(path + "/limits"), ask("/keys" + query({ user: id, limit: "50" })), ask("/usage?group_by=user,key")]);
  const used = data.filter((one) => one.user === id);
  const sum = summed(used);
  const rows = owned.data.map((key) => ({ key, sum: summed(used.filter((one) => one.key === key.id)) }));
  const again = () => { refresh(); return showUser(id); };
  const theirKeys = "#/keys" + query({ user: user.name });
  sheet(user.name,
    facts([["Id", make("code", null, user.id)], ["Limits of all keys", together(limits)], ["Quota of all keys", allowance(quota, OWN_ONLY)],
      ["This month, in UTC", figure(sum.requests) + " requests, " + figure(sum.tokens) + " tokens, " + dollars(sum.cost_usd)], ["Made", moment(user.created_at)]]),
    make("h3", null, "Keys, and what they used this month"),
    table("Keys of this user", [
      { name: "Name", show: ({ key }) => button(key.name, "key " + key.id, opening(() => showKey(key.id)), "link") },
      { name: "State", show: ({ key }) => state(keyState(key)) }, ...SUMS,
    ], rows, "No key belongs to this user yet."),
    owned.has_more ? make("p", null, make("a", { href: theirKeys }, "All of their keys")) : null,
    make("p", { class: "actions" }, offered("keys:write", button("New key", "new key", () => newKey(user.name)), button("Change limits", "limits", () => limitUser(user, limits, again)),
      button("Set quota", "quota", () => changeQuota(path, user.name, quota, again)), button("Rename", "rename", () => renameUser(user, again)), button("Delete", "delete", () => deleteUser(user), "small danger")),
      make("a", { href: "#/requests" + query({ user: id }) }, "Their requests")));
};

const users = {
  title: "Users",
  controls: (params, go) => [make("h2", null, "Users"), typed("Name", params.q, (q) => go({ q })), offered("keys:write", button("New user", "new user", newUser, "main"))],
  load: (params) => Promise.all([ask("/users" + query({ limit: "50", q: params.q, cursor: params.cursor })), ask("/usage?group_by=user")]),
  show: ([page, { data }], params) => {
    const rows = page.data.map((user) => ({ user, sum: summed(data.filter((one) => one.user === user.id)) }));
    return [rows.length ? make("p", { class: "quiet" }, "Newest first; requests, tokens and cost are of this month, in UTC.") : null,
      table("Users, newest first", [
        { name: "Name", show: ({ user }) => button(user.name, "user " + user.id, opening(() => showUser(user.id)), "link") },
        { name: "Keys", number: true, show: ({ user }) => figure(user.keys) }, ...SUMS,
        { name: "Made", show: ({ user }) => moment(user.created_at) },
      ], rows, params.q ? "No user is like that." : "There are no users yet. A user has one key or several, which can share limits and a quota."), pager(page, params)].filter(Boolean);
  },
};
