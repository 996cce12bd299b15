// Resources: what each deployment does now, and the operator's hand on it.
const tested = async (name) => {
  sheet("Test of " + name, make("p", { role: "status" }, "One tiny real request goes to each deployment …"));
  const answer = await tell("POST", "/resources/" + name + "/test", {});
  sheet("Test of " + name, table("Results", [
    { name: "Deployment", show: (one) => one.deployment }, { name: "Result", show: (one) => state(one.result) }, { name: "Status", number: true, show: (one) => figure(one.status) },
    { name: "Took", number: true, show: (one) => milliseconds(one.ms) }, { name: "What it means", show: (one) => one.meaning }], answer.deployments, "It has no deployments."),
    make("p", { class: "quiet" }, answer.note));
};

const switched = async (name, verb) => {
  await tell("POST", "/resources/" + name + "/" + verb, {});
  said(verb === "drain" ? name + " gets nothing new; what is in flight finishes" : name + " takes requests");
  refresh();
};

const used = (part, whole) => make("div", null, whole ? figure(part) + " of " + figure(whole) : figure(part), meter(part, whole));

const resources = {
  title: "Resources",
  every: 3000,
  controls: () => [make("h2", null, "Resources, now")],
  load: () => all("/resources?limit=200"),
  show: (data) => {
    if (!data.length) return [make("div", { class: "empty" }, "There is no resource yet. ", make("code", null, "aoai-gateway init"), " asks for an endpoint and a key and writes its region file; a file in the settings directory takes effect when it is saved.")];
    return data.map((resource) => make("section", { "aria-label": resource.name },
      make("div", { class: "bar" }, make("h2", null, resource.name, " ", state(resource.health)),
        make("span", { class: "quiet" }, resource.region && resource.region !== resource.name ? resource.region + ": " : "", resource.share == null ? "no requests in the last minute" : percent(resource.share) + " of the requests, " + figure(resource.in_flight) + " in flight"),
        make("span", { class: "actions" }, offered("admin", button("Test", "test " + resource.name, opening(() => tested(resource.name))),
          resource.drained ? button("Enable", "switch " + resource.name, opening(() => switched(resource.name, "enable")))
            : button("Drain", "switch " + resource.name, opening(() => switched(resource.name, "drain")))))),
      table("Deployments of " + resource.name, [
        { name: "Deployment", show: (one) => one.name }, { name: "Model", show: (one) => one.model },
        { name: "Health", show: (one) => state(one.health) },
        { name: "In flight", number: true, show: (one) => figure(one.in_flight) }, { name: "First byte", number: true, show: (one) => milliseconds(one.latency_ms) },
        { name: "Share", number: true, show: (one) => percent(one.share) },
        { name: "Requests/min", number: true, show: (one) => used(one.used_rpm, one.effective_rpm) }, { name: "Tokens/min", number: true, show: (one) => used(one.used_tpm, one.effective_tpm) },
        { name: "Last error", show: (one) => (one.last_error ? make("div", null, one.last_error.message, " ", make("span", { class: "quiet" }, moment(one.last_error.at))) : NONE) },
        { name: "Asked again", show: (one) => (one.cooldown_until ? moment(one.cooldown_until) : NONE) },
      ], resource.deployments, "No deployment of it is in force.")));
  },
};
