// Admin keys: who may use the admin plane, beside the first key, which is in the settings or was made at the first start.
const newAdminKey = () => sheet("New admin key", make("form", { submit: submitting(async (form) => {
  const expires = form.elements["/expires_at"].value;
  const key = await tell("POST", "/admin-keys", { name: form.elements["/name"].value.trim(), scopes: [form.elements["/scopes"].value], expires_at: expires ? new Date(expires + "T00:00").toISOString() : null });
  sheet("Admin key “" + key.name + "”", onlyTime(key.secret),
    make("p", null, "It signs in here, is the bearer of ", make("code", null, "/admin/v1"), ", and the command line's ", make("code", null, "GATEWAY_ADMIN_KEY"), "."));
  refresh();
}) },
make("div", { class: "fields" }, field("Name", "/name", { required: true, maxlength: "200" }), field("Expires (empty: never)", "/expires_at", { type: "date" })),
make("label", { class: "apart" }, "Scope", make("select", { name: "/scopes", "aria-describedby": "wrong/scopes" }, REACH.map((scope) => make("option", { value: scope }, scope + ": " + MAY[scope]))),
  make("span", { id: "wrong/scopes", class: "error" })),
formFoot("Make admin key")));

const revokeAdminKey = (key) => confirmed("Revoke “" + key.name + "”?",
  (key.id === who.id ? "You are signed in with this key, and will be signed out. " : "") + "It is refused from now on. What it did stays in the audit. A revoked key cannot be brought back.", "Revoke", async () => {
    await tell("DELETE", "/admin-keys/" + key.id);
    said("“" + key.name + "” is revoked");
    refresh();
  });

const adminKeys = {
  title: "Admin keys",
  needs: "admin",
  controls: () => [make("h2", null, "Admin keys"), button("New admin key", "new admin key", newAdminKey, "main")],
  load: (params) => ask("/admin-keys" + query({ limit: "50", cursor: params.cursor })),
  show: (page, params) => [table("Admin keys, newest first", [
    { name: "Name", show: (key) => [key.name, key.id === who.id ? make("span", { class: "quiet" }, " (you)") : null, make("div", null, make("code", { class: "quiet", title: "As in the audit" }, key.id))] },
    { name: "Scope", show: (key) => make("span", { title: key.scopes.map((scope) => MAY[scope]).join("; ") }, key.scopes.join(", ")) },
    { name: "State", show: (key) => state(keyState(key)) },
    { name: "Made", show: (key) => moment(key.created_at) },
    { name: "Expires", show: (key) => (key.expires_at ? moment(key.expires_at) : "never") },
    { name: "Action", show: (key) => (key.revoked_at ? NONE : button("Revoke", "revoke " + key.id, () => revokeAdminKey(key), "small danger")) },
  ], page.data, "There is none but the first admin key, which is not listed: it is in the settings, or was printed at the first start. Others can do less, expire, and are told apart in the audit."), pager(page, params)],
};
