// The settings in force with where each comes from, and who changed what.
const reload = async () => {
  const { changes } = await tell("POST", "/settings/reload", {});
  sheet("Settings loaded anew", changes.length ? make("pre", { tabindex: "0" }, changes.join("\n")) : make("p", null, "Nothing has changed."));
  refresh();
};

const settings = {
  title: "Settings",
  controls: (params, go) => [make("h2", null, "Settings in force"), typed("Setting", params.q, (q) => go({ q })),
    make("label", { class: "line" }, make("input", { type: "checkbox", checked: params.own === "yes", change: (event) => go({ own: event.target.checked ? "yes" : "" }) }), "only what differs from the defaults"),
    offered("admin", button("Load anew", "reload", opening(reload), ""))],
  load: () => ask("/settings"),
  show: ({ data }, params) => [table("Settings", [
    { name: "Setting", show: (one) => make("code", null, one.key) }, { name: "Value", show: (one) => make("code", null, JSON.stringify(one.value)) },
    { name: "From", show: (one) => one.origin }, { name: "Takes effect", show: (one) => (one.needs_restart ? "after a restart" : "at once") },
  ], data.filter((one) => (!params.q || one.key.includes(params.q)) && (params.own !== "yes" || one.origin !== "default")), "No setting is like that.")],
};

const audit = {
  title: "Audit",
  needs: "admin",
  controls: (params, go) => [make("h2", null, "Who changed what"), typed("Id or name of what was changed", params.target, (target) => go({ target })), typed("Kind, as in key.created", params.action, (action) => go({ action }))],
  load: (params) => ask("/audit" + query({ limit: "50", target: params.target, action: params.action, cursor: params.cursor })),
  show: (page, params) => [table("Changes, newest first", [
    { name: "When", show: (one) => moment(one.at) }, { name: "Who", show: (one) => one.actor_name }, { name: "From", show: (one) => one.address || NONE }, { name: "What", show: (one) => one.action },
    { name: "Of", show: (one) => make("code", null, one.target) },
    { name: "Change", show: (one) => button("Before and after", "change " + one.id, () => sheet(one.action, make("h3", null, "Before"), make("pre", { tabindex: "0" }, JSON.stringify(one.before, null, 2)),
      make("h3", null, "After"), make("pre", { tabindex: "0" }, JSON.stringify(one.after, null, 2)))) },
  ], page.data, params.target || params.action ? "No change is like that." : "Nothing was changed yet."), pager(page, params)],
};
