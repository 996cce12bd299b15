"use strict";
const make = (tag, text, ...children) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};
const named = (api, schema) => schema && schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
// `words` in backquotes are code.
const prose = (tag, text) => make(tag, "", ...(text || "").split("`").map((part, index) => (index % 2 ? make("code", part) : part)));
const kind = (schema) => !schema ? "" : schema.$ref ? schema.$ref.split("/").pop()
  : schema.oneOf ? schema.oneOf.map(kind).filter((one) => one && one !== "null").join(" or ")
  : schema.items ? "list of " + (kind(schema.items) || "values")
  : [].concat(schema.type || "").filter((one) => one !== "null").join(" or ");
const members = (api, schema) => {
  const table = make("table");
  const add = (part, before) => {
    part = named(api, part);
    if (!part) return;
    (part.allOf || []).forEach((one) => add(one, before));
    for (const [name, member] of Object.entries(part.properties || {})) {
      const needed = (part.required || []).includes(name) ? "" : "?";
      table.append(make("tr", "", make("td", "", make("code", before + name + needed)), make("td", kind(member)), prose("td", member.description)));
      const inner = [member, member.items, ...(member.oneOf || [])].find((one) => one && one.$ref);
      // Deeper than that, the document itself is easier to read.
      if (inner && before.split(/[.[]/).length < 3) add(inner, before + name + (member.items ? "[]." : "."));
    }
  };
  add(schema, "");
  return table;
};
const operation = (api, path, method, about) => {
  const box = make("div");
  if (about.description) box.append(prose("p", about.description));
  const parameters = make("table");
  for (const one of about.parameters || []) {
    parameters.append(make("tr", "", make("td", "", make("code", one.name)), make("td", one.in), prose("td", one.description)));
  }
  if (parameters.rows.length) box.append(make("h3", "Parameters"), parameters);
  const body = about.requestBody && about.requestBody.content["application/json"];
  if (body) box.append(make("h3", "Body"), members(api, body.schema));
  for (const [status, answer] of Object.entries(about.responses)) {
    const json = answer.content && answer.content["application/json"];
    if (!json) continue;
    const page = json.schema.properties && json.schema.properties.data;
    box.append(make("h3", status + ": " + answer.description), members(api, page ? page.items : json.schema));
  }
  return make("details", "", make("summary", "", make("b", method.toUpperCase()), make("code", path), " ", prose("span", about.summary)), box);
};
fetch("openapi.json").then((answer) => answer.json()).then((api) => {
  const main = document.getElementById("main");
  main.replaceChildren(make("h1", api.info.title + " " + api.info.version), prose("p", api.info.description),
    Object.assign(make("pre", "curl " + location.origin + "/admin/v1/keys -H \"authorization: Bearer $GATEWAY_ADMIN_KEY\""), { tabIndex: 0 }));
  for (const tag of api.tags) {
    main.append(Object.assign(make("h2", tag.name), { className: "part" }));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [method, about] of Object.entries(item)) {
        if ((about.tags || []).includes(tag.name)) main.append(operation(api, path, method, about));
      }
    }
  }
}).catch((error) => document.getElementById("main").replaceChildren(make("p", "openapi.json cannot be read: " + error)));
