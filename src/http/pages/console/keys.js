// Keys: found, made, limited, given another secret, revoked; their quotas and grants.
const keyState = (key) => (key.revoked_at ? "revoked" : key.expires_at && new Date(key.expires_at) <= new Date() ? "expired" : "active");
const limited = (value) => (value == null ? "default" : typeof value === "number" ? figure(value) : value);
const named = (list) => (list ? list.join(", ") : "all");

const allowance = (quota, none) => {
  const parts = [];
  for (const [unit, shown] of [["tokens", (value) => figure(value) + " tokens"], ["cost_usd", dollars]]) {
    const own = quota[unit];
    if (own == null) continue;
    const whole = own + (quota["granted_" + unit] || 0);
    const reserved = quota["reserved_" + unit] ? ", " + shown(quota["reserved_" + unit]) + " reserved" : "";
    parts.push(make("div", null, shown(quota["used_" + unit]) + " of " + shown(whole) + reserved, meter(quota["used_" + unit], whole)));
  }
  if (!parts.length) return none;
  const end = quota.resets_at ? ["begins anew ", moment(quota.resets_at), " (" + quota.time_zone + ")"] : ["for good"];
  return make("div", null, parts, make("div", { class: "quiet" }, end));
};

// What the admin plane takes: a number, a word, or nothing.
const amount = (form, name) => {
  const text = form.elements[name].value.trim().replace(/[_ ]/g, "");
  return text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
};
const words = (form, name) => {
  const list = form.elements[name].value.split(",").map((word) => word.trim()).filter(Boolean);
  return list.length ? list : null;
};
const limitsOf = (form, at) => ({ rpm: amount(form, at + "/rpm"), tpm: amount(form, at + "/tpm"), concurrency: amount(form, at + "/concurrency") });

const quotaOf = (form, at) => {
  const [tokens, cost_usd] = [amount(form, at + "/tokens"), amount(form, at + "/cost_usd")];
  if (tokens == null && cost_usd == null) return null;
  const zone = form.elements[at + "/time_zone"].value.trim();
  return { period: form.elements[at + "/period"].value, tokens, cost_usd, ...(zone ? { time_zone: zone } : {}) };
};

const KEY_LIMITS = "Limits (a number, “unlimited”, or empty for the default)";
const limitFields = (legend, at, limits = {}) => make("fieldset", null, make("legend", null, legend), make("div", { class: "fields" },
  field("Requests per minute", at + "/rpm", { value: limits.rpm }), field("Tokens per minute", at + "/tpm", { value: limits.tpm }),
  field("Requests at once", at + "/concurrency", { value: limits.concurrency })));

const quotaFields = (at, quota = {}) => make("fieldset", null, make("legend", null, "Quota (empty: none)"), make("div", { class: "fields" },
  make("label", null, "Per", make("select", { name: at + "/period" }, [["month", "month"], ["week", "week"], ["day", "day"], ["none", "for good"]].map(([value, text]) =>
    make("option", { value, selected: value === (quota.tokens == null && quota.cost_usd == null ? "month" : quota.period) }, text))), make("span", { class: "error" })),
  field("Tokens", at + "/tokens", { value: quota.tokens, inputmode: "numeric" }), field("US dollars", at + "/cost_usd", { value: quota.cost_usd, inputmode: "decimal" }),
  field("Time zone", at + "/time_zone", { value: quota.tokens == null && quota.cost_usd == null ? null : quota.time_zone, placeholder: "as in the settings" })));

const showSecret = (title, key) => sheet(title,
  onlyTime(key.secret),
  make("h3", null, "For an environment"), make("pre", { tabindex: "0" }, key.share.env), make("div", { class: "actions" }, copied("lines", key.share.env)),
  make("h3", null, "For ChatGPT-Next-Web, behind its address"), make("pre", { tabindex: "0" }, key.share.nextchat), make("div", { class: "actions" }, copied("link", key.share.nextchat)),
  (key.warnings || []).map((warning) => make("p", { class: "warn" }, warning)));

const newKey = (user) => {
  const form = make("form", { submit: submitting(async (form) => {
    const expires = form.elements["/expires_at"].value;
    const body = { name: form.elements["/name"].value, user: form.elements["/user"].value.trim() || null, models: words(form, "/models"), regions: words(form, "/regions"),
      class: form.elements["/class"].value, limits: limitsOf(form, "/limits"), quota: quotaOf(form, "/quota"), expires_at: expires ? new Date(expires + "T00:00").toISOString() : null };
    const key = await tell("POST", "/keys", body);
    showSecret("Key “" + key.name + "”", key);
    refresh();
  }) },
  make("div", { class: "fields" }, field("Name", "/name", { required: true }), field("User (made if there is none)", "/user", { value: user }), field("Models, separated by commas", "/models", { placeholder: "all" }),
    field("Regions, separated by commas", "/regions", { placeholder: "all" }), field("Expires", "/expires_at", { type: "date" }),
    make("label", null, "Class", make("select", { name: "/class" }, make("option", { value: "interactive" }, "interactive"), make("option", { value: "batch" }, "batch: leaves room to others")), make("span", { class: "error" }))),
  limitFields(KEY_LIMITS, "/limits"), quotaFields("/quota"), formFoot("Make key"));
  sheet("New key", form);
};

// `path` is its owner's, a key or a user.
const changeQuota = (path, name, quota, done) => {
  const form = make("form", { submit: submitting(async (form) => { await tell("PUT", path + "/quota", quotaOf(form, "") || {}); await done(); }) }, quotaFields("", quota), formFoot("Set quota"));
  sheet("Quota of “" + name + "”", form);
};

const changeLimits = (key, done) => {
  const form = make("form", { submit: submitting(async (form) => { await tell("PATCH", "/keys/" + key.id, { limits: limitsOf(form, "/limits") }); await done(); }) }, limitFields(KEY_LIMITS, "/limits", key.limits), formFoot("Set limits"));
  sheet("Limits of “" + key.name + "”", form);
};

const grant = (id, quota, done) => {
  const form = make("form", { submit: submitting(async (form) => {
    const [tokens, cost_usd, reason] = [amount(form, "/tokens"), amount(form, "/cost_usd"), form.elements["/reason"].value.trim()];
    await tell("POST", "/keys/" + id + "/grants", { ...(tokens == null ? {} : { tokens }), ...(cost_usd == null ? {} : { cost_usd }), ...(reason ? { reason } : {}) });
    await done();
  }) }, make("p", null, "It lasts until the running period ends."), make("div", { class: "fields" }, field("Tokens", "/tokens", { inputmode: "numeric", disabled: quota.tokens == null }),
    field("US dollars", "/cost_usd", { inputmode: "decimal", disabled: quota.cost_usd == null }), field("Reason", "/reason")), formFoot("Grant"));
  sheet("A grant on top of the quota", form);
};

const rotate = (key) => {
  const form = make("form", { submit: submitting(async (form) => {
    const rotated = await tell("POST", "/keys/" + key.id + "/rotate", { grace: form.elements["/grace"].value });
    showSecret("Another secret for “" + key.name + "”", rotated);
    refresh();
  }) }, field("The old secret stays good for", "/grace", { value: "24h", required: true }), formFoot("Make another secret"));
  sheet("Another secret for “" + key.name + "”", form);
};

const revoke = (key) => confirmed("Revoke “" + key.name + "”?", "It is refused from now on. Its requests stay in the books. A revoked key cannot be brought back.", "Revoke", async () => {
  await tell("DELETE", "/keys/" + key.id);
  said("“" + key.name + "” is revoked");
  refresh();
});

const showKey = async (id) => {
  const [key, quota, grants] = await Promise.all([ask("/keys/" + id), ask("/keys/" + id + "/quota"), all("/keys/" + id + "/grants?limit=200")]);
  const again = () => { refresh(); return showKey(id); };
  const changeable = !key.revoked_at && may("keys:write");
  const has = quota.tokens != null || quota.cost_usd != null;
  sheet(key.name,
    facts([["Id", make("code", null, key.id)], ["Secret", make("code", null, key.prefix ? key.prefix + "…" : "chosen by its owner")], ["State", state(keyState(key))], ["User", key.user ? button(key.user.name, "user", opening(() => showUser(key.user.id)), "link") : "nobody"],
      ["Models", named(key.models)], ["Regions", named(key.regions)], ["Class", key.class],
      ["Limits", "requests/min " + limited(key.limits.rpm) + ", tokens/min " + limited(key.limits.tpm) + ", at once " + limited(key.limits.concurrency)],
      ["Quota", allowance(quota, "none: only the limits per minute hold")], ["Made", moment(key.created_at)], ["Expires", key.expires_at ? moment(key.expires_at) : "never"], ["Revoked", key.revoked_at && moment(key.revoked_at)]]),
    grants.length ? [make("h3", null, "Grants"), table("Grants", [
      { name: "Tokens", number: true, show: (one) => figure(one.tokens) }, { name: "Dollars", number: true, show: (one) => dollars(one.cost_usd) },
      { name: "Reason", show: (one) => one.reason || NONE }, { name: "Until", show: (one) => moment(one.expires_at) },
      ...offered("keys:write", { name: "Action", show: (one) => button("Withdraw", "withdraw " + one.id, opening(async () => { await tell("DELETE", "/keys/" + id + "/grants/" + one.id); await again(); })) })], grants)] : null,
    make("p", { class: "actions" }, changeable ? [button("Change limits", "limits", () => changeLimits(key, again)), button("Set quota", "quota", () => changeQuota("/keys/" + id, key.name, quota, again)),
      has ? button("Grant more", "grant", () => grant(id, quota, again)) : null, button("Another secret", "rotate", () => rotate(key)), button("Revoke", "revoke", () => revoke(key), "small danger")] : null,
      make("a", { href: "#/requests?key=" + id }, "Its requests")));
};

const keys = {
  title: "Keys",
  controls: (params, go) => [make("h2", null, "Keys"), typed("Name or beginning of the secret", params.q, (q) => go({ q })), typed("User", params.user, (user) => go({ user })),
    choice("State", params.state || "", [["", "any"], ["active", "active"], ["expired", "expired"], ["revoked", "revoked"]], (value) => go({ state: value })),
    offered("keys:write", button("New key", "new key", () => newKey(params.user), "main"))],
  load: (params) => ask("/keys" + query({ limit: "50", q: params.q, user: params.user, state: params.state, cursor: params.cursor })),
  show: (page, params) => [table("Keys, newest first", [
    { name: "Name", show: (key) => button(key.name, "key " + key.id, opening(() => showKey(key.id)), "link") },
    { name: "User", show: (key) => (key.user ? key.user.name : NONE) },
    { name: "Secret", show: (key) => make("code", null, key.prefix ? key.prefix + "…" : "chosen") },
    { name: "State", show: (key) => state(keyState(key)) },
    { name: "Models", show: (key) => named(key.models) },
    { name: "Requests/min", number: true, show: (key) => limited(key.limits.rpm) },
    { name: "Tokens/min", number: true, show: (key) => limited(key.limits.tpm) },
    { name: "At once", number: true, show: (key) => limited(key.limits.concurrency) },
    { name: "Made", show: (key) => moment(key.created_at) },
    { name: "Expires", show: (key) => (key.expires_at ? moment(key.expires_at) : "never") },
  ], page.data, params.q || params.user || params.state ? "No key is like that." : "There are no keys yet. Each caller gets one of their own: make the first."), pager(page, params)],
};
