// Usage and requests: what the ledger says, and why each attempt went where it went.
const DAY = 24 * 3600 * 1000;
const day = (ago) => new Date(Date.now() - ago * DAY).toISOString().slice(0, 10);
const lastMonth = () => {
  const now = new Date();
  const first = (back) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 10);
  return { from: first(1), to: first(0) };
};
const RANGES = { "": () => ({}), "1": () => ({ from: day(0) }), "7": () => ({ from: day(6) }), "30": () => ({ from: day(29) }), last: lastMonth };

const usageQuery = (params, format) => "/usage" + query({ group_by: params.by || "key", bucket: params.bucket, ...(RANGES[params.range] || RANGES[""])(), format });

const download = async (params) => {
  const text = await (await send("GET", usageQuery(params, "csv"))).text();
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "usage.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
};

const usage = {
  title: "Usage",
  every: 30000,
  controls: (params, go) => [make("h2", null, "Usage"),
    choice("Time, in UTC", params.range || "", [["", "this month"], ["last", "last month"], ["1", "today"], ["7", "7 days"], ["30", "30 days"]], (range) => go({ range })),
    choice("By", params.by || "key", [["key", "key"], ["user", "user"], ["model", "model"], ["resource", "resource"], ["key,model", "key and model"]], (by) => go({ by })),
    choice("Each", params.bucket || "", [["", "all of it"], ["1h", "hour"], ["1d", "day"], ["1mo", "month"]], (bucket) => go({ bucket })),
    button("CSV", "csv", opening(() => download(here().params)), "")],
  load: (params) => ask(usageQuery(params)),
  show: ({ data }, params) => {
    const by = (params.by || "key").split(",");
    const most = Math.max(...data.map((one) => one.cost_usd));
    const total = (name) => data.reduce((sum, one) => sum + one[name], 0);
    return [data.length ? make("p", null, figure(total("requests")) + " requests, " + figure(total("input_tokens") + total("output_tokens")) + " tokens, " + dollars(total("cost_usd"))) : null,
      table("Usage", [
        ...(params.bucket ? [{ name: "From", show: (one) => moment(one.start) }] : []),
        ...by.map((name) => ({ name: name[0].toUpperCase() + name.slice(1), show: (one) => one[name + "_name"] || one[name] || NONE })),
        { name: "Requests", number: true, show: (one) => figure(one.requests) }, { name: "Errors", number: true, show: (one) => figure(one.errors) },
        { name: "Input tokens", number: true, show: (one) => figure(one.input_tokens) }, { name: "of them cached", number: true, show: (one) => figure(one.cached_input_tokens) },
        { name: "Output tokens", number: true, show: (one) => figure(one.output_tokens) },
        { name: "Cost", number: true, show: (one) => make("div", null, dollars(one.cost_usd), bar(one.cost_usd, most)) },
      ], data, "Nothing was used in this time.")].filter(Boolean);
  },
};

const WHY = {
  not_its_resource: "what the request refers to is kept elsewhere", already_tried: "this request was sent there before", region_not_allowed: "the key is not served from its region",
  prompt_too_long: "provisioned capacity refused the prompt as too long", drained: "drained by an operator", cooling: "it asked for a pause", breaker_open: "left alone after failures",
  quarantined: "it refuses our credential, or does not exist", being_probed: "another request is finding out whether it works again", no_room: "as much is in flight as it may have",
  no_credential: "there is no token to call it with", no_quota: "its quota has no room for a request of this size", batch_share: "batch jobs leave the rest to chats", lower_tier: "of a later tier",
  lost_draw: "drawn too, and more loaded", not_drawn: "not drawn", known_bad: "its latest answer was a fault", lowered_share: "it gets less than its weight for now",
  cached_elsewhere: "the prompt's beginning is cached at the chosen one",
};
const HOW = {
  drawn: "the less loaded of two that were drawn", affinity: "the prompt's beginning is cached there", drawn_after_affinity: "drawn, because the prompt's own place is full or ill",
  hedge: "asked too, because the first was late to begin", trial: "to find out whether it works again", panic: "nobody is well, so everybody is asked", last_resort: "nobody else was left",
};

const passedOver = (decision) => table("Passed over", [
  { name: "Passed over", show: (one) => one.resource + "/" + one.deployment }, { name: "Why", show: (one) => WHY[one.reason] || one.reason },
  { name: "Until", show: (one) => moment(one.until) }], decision.passed_over, "There was nobody else.");

const showRequest = async (id) => {
  const one = await ask("/requests/" + id);
  const attempt = (attempt, index) => [make("h3", null, index + 1 + ". ", attempt.resource + "/" + attempt.deployment + ": ", state(attempt.reason)),
    facts([["Status", figure(attempt.status)], ["Took", milliseconds(attempt.ms)], ["Tokens", figure(attempt.input_tokens) + " in, " + figure(attempt.output_tokens) + " out"], ["Charged to us", attempt.charged],
      ["Chosen as", attempt.decision && (HOW[attempt.decision.manner] || attempt.decision.manner)]]),
    attempt.decision ? passedOver(attempt.decision) : null];
  sheet("Request " + one.id,
    facts([["x-request-id", one.request_id === one.id ? null : one.request_id], ["State", state(one.state)], ["Status", figure(one.status)], ["Endpoint", one.endpoint], ["Model", one.model], ["Key", make("code", null, one.key_id)],
      ["Began", moment(one.started_at)], ["First byte", milliseconds(one.ttfb_ms)], ["Took", milliseconds(one.duration_ms)],
      ["Tokens", figure(one.input_tokens) + " in (" + figure(one.cached_input_tokens) + " cached), " + figure(one.output_tokens) + " out (" + figure(one.reasoning_tokens) + " reasoning)" + (one.estimated ? ", estimated" : "")],
      ["Cost", dollars(one.cost_usd) + (one.flat_cost ? ", partly by provisioned capacity" : "")]]),
    one.attempts.map(attempt),
    one.refusals.map((refusal) => [make("h3", null, "Nobody could be asked at ", moment(refusal.at)), passedOver(refusal)]),
    one.decision_note ? make("p", { class: "quiet" }, one.decision_note) : null);
};

const requests = {
  title: "Requests",
  every: 5000,
  controls: (params, go) => [make("h2", null, "Requests"), typed("Model", params.model, (model) => go({ model })), typed("x-request-id or id", params.request_id, (request_id) => go({ request_id })),
    typed("Key's id", params.key, (key) => go({ key })), typed("User's id", params.user, (user) => go({ user })),
    choice("State", params.state || "", [["", "any"], ["open", "open"], ["settled", "settled"], ["cancelled", "cancelled"], ["failed", "failed"], ["recovered", "recovered"]], (value) => go({ state: value }))],
  load: (params) => ask("/requests" + query({ limit: "50", model: params.model, request_id: params.request_id, key: params.key, user: params.user, state: params.state, cursor: params.cursor })),
  show: (page, params) => [table("Requests, newest first", [
    { name: "Began", show: (one) => button(new Date(one.started_at).toLocaleString(), "request " + one.id, opening(() => showRequest(one.id)), "link") },
    { name: "Model", show: (one) => one.model }, { name: "Endpoint", show: (one) => one.endpoint }, { name: "State", show: (one) => state(one.state === "open" ? "under way" : one.state) },
    { name: "Status", number: true, show: (one) => (one.status == null ? NONE : String(one.status)) },
    { name: "Served by", show: (one) => (one.attempts.length ? one.attempts.at(-1).resource + (one.attempts.length > 1 ? " (attempt " + one.attempts.length + ")" : "") : NONE) },
    { name: "Tokens", number: true, show: (one) => figure(one.input_tokens) + " + " + figure(one.output_tokens) + (one.estimated ? " (est.)" : "") },
    { name: "Cost", number: true, show: (one) => dollars(one.cost_usd) }, { name: "First byte", number: true, show: (one) => milliseconds(one.ttfb_ms) }, { name: "Took", number: true, show: (one) => milliseconds(one.duration_ms) },
  ], page.data, params.model || params.request_id || params.key || params.user || params.state ? "No request is like that." : "There are no requests yet. `aoai-gateway try \"hello\"` sends one."), pager(page, params)],
};
