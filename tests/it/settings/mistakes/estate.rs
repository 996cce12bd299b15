//! Models, resources and their deployments.

use super::assert_said;

#[test]
fn missing_values() {
    assert_said(
        r#"
[resources.eastus2]
weight = 50
[resources.eastus2.deployments]
x = { priority = 0 }
"#,
        r#"
error: resources.eastus2: no `endpoint`
  --> settings/20-x.toml:1:12
   |
 1 | [resources.eastus2]
   |            ^^^^^^^
   = tip: add endpoint = "https://NAME.openai.azure.com"
error: resources.eastus2: no `api_key`
  --> settings/20-x.toml:1:12
   |
 1 | [resources.eastus2]
   |            ^^^^^^^
   = tip: add api_key = "env:NAME" or "file:/run/secrets/NAME"
error: resources.eastus2.deployments.x: no `model`
  --> settings/20-x.toml:4:1
   |
 4 | x = { priority = 0 }
   | ^
   = tip: say which model it is: "x" = { model = "gpt-4o-mini" }
"#,
    );
}

#[test]
fn resource_names() {
    assert_said(
        r#"
[resources.EastUS2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources."a b"]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
"#,
        r#"
error: "EastUS2" cannot be the name of a resource
  --> settings/20-x.toml:1:12
   |
 1 | [resources.EastUS2]
   |            ^^^^^^^ 1 to 64 of a-z, 0-9, _ and -
   = tip: write `eastus2`
error: "a b" cannot be the name of a resource
  --> settings/20-x.toml:4:12
   |
 4 | [resources."a b"]
   |            ^^^^^ 1 to 64 of a-z, 0-9, _ and -
"#,
    );
}

#[test]
fn deployment_names() {
    assert_said(
        r#"
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources.eastus2.deployments]
"a/b" = "gpt-4.1"
c = ""
d = 3
"#,
        r#"
error: "a/b" cannot be the name of a deployment
  --> settings/20-x.toml:5:1
   |
 5 | "a/b" = "gpt-4.1"
   | ^^^^^ 1 to 64 of letters, digits, _ - and .
error: `resources.eastus2.deployments.c` must be a model's name, not the text ""
  --> settings/20-x.toml:6:5
   |
 6 | c = ""
   |     ^^
error: `resources.eastus2.deployments.d` must be a model's name, or a table such as { model = "d", priority = 0 }, not the number 3
  --> settings/20-x.toml:7:5
   |
 7 | d = 3
   |     ^
"#,
    );
}

#[test]
fn settings_below_the_deployments() {
    assert_said(
        r#"
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources.eastus2.deployments]
"gpt-4.1" = "gpt-4.1"
priority = 2
api_version = "v1"
"#,
        r#"
error: `priority` stands among the deployments
  --> settings/20-x.toml:6:1
   |
 6 | priority = 2
   | ^^^^^^^^ a setting of the resource
   = tip: move the line up, above `[resources.eastus2.deployments]`
error: `api_version` stands among the deployments
  --> settings/20-x.toml:7:1
   |
 7 | api_version = "v1"
   | ^^^^^^^^^^^ a setting of the resource
   = tip: move the line up, above `[resources.eastus2.deployments]`
warning: `resources.eastus2.deployments."gpt-4.1"`: the model `gpt-4.1` has no table, so its use is counted without a price
  --> settings/20-x.toml:5:13
   |
 5 | "gpt-4.1" = "gpt-4.1"
   |             ^^^^^^^^^
   = tip: add [models."gpt-4.1"] with price = { input = …, output = … }
"#,
    );
}

#[test]
fn an_implied_model() {
    assert_said(
        r#"
[models."gpt-4o-mini"]
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources.eastus2.deployments]
x = "gpt-4o-mni"
y = "gpt-9"
"#,
        r#"
warning: `resources.eastus2.deployments.x`: the model `gpt-4o-mni` has no table, so its use is counted without a price
  --> settings/20-x.toml:6:5
   |
 6 | x = "gpt-4o-mni"
   |     ^^^^^^^^^^^^
   = tip: did you mean `gpt-4o-mini`? or add [models."gpt-4o-mni"] with its price
warning: `resources.eastus2.deployments.y`: the model `gpt-9` has no table, so its use is counted without a price
  --> settings/20-x.toml:7:5
   |
 7 | y = "gpt-9"
   |     ^^^^^^^
   = tip: add [models."gpt-9"] with price = { input = …, output = … }
"#,
    );
}

#[test]
fn alias_collisions() {
    assert_said(
        r#"
[models."gpt-4.1"]
aliases = ["gpt-4"]
[models."gpt-4o"]
aliases = ["gpt-4", "gpt-4.1", "gpt-4o"]
"#,
        r#"
error: the alias `gpt-4` belongs to two models, `gpt-4.1` and `gpt-4o`
  --> settings/20-x.toml:4:11
   |
 4 | aliases = ["gpt-4", "gpt-4.1", "gpt-4o"]
   |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: a name means one model: remove it from one of them
error: `gpt-4.1` is an alias of `gpt-4o` and a model of its own
  --> settings/20-x.toml:4:11
   |
 4 | aliases = ["gpt-4", "gpt-4.1", "gpt-4o"]
   |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: remove the alias, or the table of the model `gpt-4.1`
"#,
    );
}

#[test]
fn an_alias_that_is_deployed() {
    assert_said(
        r#"
[models."gpt-4o-mini"]
aliases = ["gpt-3.5-turbo"]
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources.eastus2.deployments]
old = "gpt-3.5-turbo"
"#,
        r#"
error: `gpt-3.5-turbo` is an alias of `gpt-4o-mini` and a model of its own
  --> settings/20-x.toml:2:11
   |
 2 | aliases = ["gpt-3.5-turbo"]
   |           ^^^^^^^^^^^^^^^^^
   = tip: remove the alias, or let `old` of resources.eastus2 name the model `gpt-4o-mini`
"#,
    );
}

#[test]
fn versions() {
    assert_said(
        r#"
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
api_version = "2024-10"
"#,
        r#"
error: `resources.eastus2.api_version` must be "v1" or a dated version such as "2024-10-21" or "2025-04-01-preview", not the text "2024-10"
  --> settings/20-x.toml:4:15
   |
 4 | api_version = "2024-10"
   |               ^^^^^^^^^
"#,
    );
}

#[test]
fn endpoints() {
    assert_said(
        r#"
[resources.a]
api_key = "env:KEY"
endpoint = "http://c.openai.azure.com"
[resources.b]
api_key = "env:KEY"
endpoint = "https://me:word@c.openai.azure.com"
[resources.c]
api_key = "env:KEY"
endpoint = "https://c.openai.azure.com/openai/deployments/gpt4/chat/completions?api-version=2024-10-21"
[resources.d]
api_key = "env:KEY"
endpoint = "https://gateway.contoso.com"
"#,
        r#"
error: `resources.a.endpoint` is http://: the key and all prompts would travel in clear
  --> settings/20-x.toml:3:12
   |
 3 | endpoint = "http://c.openai.azure.com"
   |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: write https://, or `allow_insecure = true` beside it for a network you trust
error: `resources.b.endpoint` must not hold a user name or password
  --> settings/20-x.toml:6:12
   |
 6 | endpoint = "https://…@c.openai.azure.com"
   |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: the resource's key is its `api_key`
error: `resources.c.endpoint` includes "/openai", which the gateway adds itself
  --> settings/20-x.toml:9:12
   |
 9 | endpoint = "https://c.openai.azure.com/openai/deployments/gpt4/chat/completions?api-version=2024-10-21"
   |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: write "https://c.openai.azure.com", and "gpt4" in its `deployments`
warning: `resources.d.endpoint`: gateway.contoso.com is not a host that Azure gives to OpenAI resources
   --> settings/20-x.toml:12:12
    |
 12 | endpoint = "https://gateway.contoso.com"
    |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    = tip: right for a private endpoint or a proxy of your own; the resource's key is sent there
"#,
    );
}

#[test]
fn weights_and_priorities() {
    assert_said(
        r#"
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
weight = 0
priority = -1
[resources.eastus2.deployments]
x = { model = "gpt-4.1", max_in_flight = 0, sku = "premium" }
[models."gpt-4.1"]
max_output = 0
"#,
        r#"
error: `resources.eastus2.weight` must be a whole number from 1 to 10000, not the number 0
  --> settings/20-x.toml:4:10
   |
 4 | weight = 0
   |          ^
error: `resources.eastus2.priority` must be a whole number from 0 to 1000000, not the number -1
  --> settings/20-x.toml:5:12
   |
 5 | priority = -1
   |            ^^
error: `resources.eastus2.deployments.x.max_in_flight` must be a whole number from 1 to 1000000, not the number 0
  --> settings/20-x.toml:7:42
   |
 7 | x = { model = "gpt-4.1", max_in_flight = 0, sku = "premium" }
   |                                          ^
error: `resources.eastus2.deployments.x.sku` must be "standard" or "provisioned", not the text "premium"
  --> settings/20-x.toml:7:51
   |
 7 | x = { model = "gpt-4.1", max_in_flight = 0, sku = "premium" }
   |                                                   ^^^^^^^^^
error: `models."gpt-4.1".max_output` must be a whole number from 1 to 1000000, not the number 0
  --> settings/20-x.toml:9:14
   |
 9 | max_output = 0
   |              ^
"#,
    );
}

#[test]
fn prices() {
    assert_said(
        r#"
[models.a]
price = { input = -1, cached_input = "0.1", output = 1e9 }
[models.b]
price = { input = 0.0000001, outptu = 3 }
[models.c]
price = 3
"#,
        r#"
error: `models.a.price.input` must not be negative, as the number -1 is
  --> settings/20-x.toml:2:19
   |
 2 | price = { input = -1, cached_input = "0.1", output = 1e9 }
   |                   ^^
   = tip: prices are USD per million tokens: { input = 0.15, cached_input = 0.075, output = 0.60 }
error: `models.a.price.cached_input` must be a number without quotes, not the text "0.1"
  --> settings/20-x.toml:2:38
   |
 2 | price = { input = -1, cached_input = "0.1", output = 1e9 }
   |                                      ^^^^^
   = tip: prices are USD per million tokens: { input = 0.15, cached_input = 0.075, output = 0.60 }
error: `models.a.price.output` is over 100000 USD per million tokens: the number 1000000000
  --> settings/20-x.toml:2:54
   |
 2 | price = { input = -1, cached_input = "0.1", output = 1e9 }
   |                                                      ^^^
   = tip: prices are USD per million tokens: { input = 0.15, cached_input = 0.075, output = 0.60 }
error: `models.b.price.input` has more than six decimals: the number 0.0000001
  --> settings/20-x.toml:4:19
   |
 4 | price = { input = 0.0000001, outptu = 3 }
   |                   ^^^^^^^^^
   = tip: prices are USD per million tokens: { input = 0.15, cached_input = 0.075, output = 0.60 }
error: unknown setting `outptu`
  --> settings/20-x.toml:4:30
   |
 4 | price = { input = 0.0000001, outptu = 3 }
   |                              ^^^^^^ not a setting of [models.*.price]
   = tip: did you mean `output`?
error: `models.c.price` must be a table, not the number 3
  --> settings/20-x.toml:6:9
   |
 6 | price = 3
   |         ^
   = tip: write `[models.c.price]` and its settings below it
"#,
    );
}

#[test]
fn fallbacks() {
    assert_said(
        r#"
[models.alpha]
aliases = ["first"]
fallback = ["alpha", "btea", 3]
[models.beta]
fallback = ["first"]
"#,
        r#"
error: `models.alpha.fallback`: `alpha` is the model itself
  --> settings/20-x.toml:3:12
   |
 3 | fallback = ["alpha", "btea", 3]
   |            ^^^^^^^^^^^^^^^^^^^^
   = tip: name another model
error: `models.alpha.fallback` names `btea`, which is no model
  --> settings/20-x.toml:3:12
   |
 3 | fallback = ["alpha", "btea", 3]
   |            ^^^^^^^^^^^^^^^^^^^^
   = tip: did you mean `beta`?
error: `models.alpha.fallback.2` must be text in quotes, not the number 3
  --> settings/20-x.toml:3:30
   |
 3 | fallback = ["alpha", "btea", 3]
   |                              ^
"#,
    );
}
