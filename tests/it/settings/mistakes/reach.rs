//! How a resource is reached and called: kinds, proxies, identities.

use super::assert_said;

#[test]
fn kinds() {
    assert_said(
        r#"
[resources.a]
kind = "opanai"
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources.b]
kind = "openai"
endpoint = "https://api.openai.com"
api_key = "env:KEY"
api_version = "v1"
[resources.c]
kind = "openai"
endpoint = "https://api.openai.com/v1/chat/completions"
api_key = "env:KEY"
"#,
        r#"
error: `resources.a.kind` must be "azure" or "openai" (any OpenAI-compatible endpoint), not the text "opanai"
  --> settings/20-x.toml:2:8
   |
 2 | kind = "opanai"
   |        ^^^^^^^^
error: `resources.b.api_version` is Azure's: an endpoint of kind "openai" has no api-version
  --> settings/20-x.toml:9:1
   |
 9 | api_version = "v1"
   | ^^^^^^^^^^^
   = tip: remove the line
error: `resources.c.endpoint` includes "/chat", which the gateway adds itself
   --> settings/20-x.toml:12:12
    |
 12 | endpoint = "https://api.openai.com/v1/chat/completions"
    |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    = tip: write "https://api.openai.com/v1"
warning: `resources.b.endpoint` has no path, and OpenAI's API usually begins with /v1
  --> settings/20-x.toml:7:12
   |
 7 | endpoint = "https://api.openai.com"
   |            ^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: write "https://api.openai.com/v1", unless this one answers at /chat/completions
"#,
    );
}

#[test]
fn proxies() {
    assert_said(
        r#"
[resources.a]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
proxy = "proxy.contoso.com:3128"
[resources.b]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
proxy = "https://me:canary@proxy.contoso.com"
"#,
        r#"
error: `resources.a.proxy` must begin with http:// or socks5://
  --> settings/20-x.toml:4:9
   |
 4 | proxy = "proxy.contoso.com:3128"
   |         ^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: write it like "http://proxy.contoso.com:3128" or "socks5://127.0.0.1:1080"
error: `resources.b.proxy` is https://, which is not spoken to proxies
  --> settings/20-x.toml:8:9
   |
 8 | proxy = "https://…@proxy.contoso.com"
   |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: write http://: what goes through stays TLS
"#,
    );
}

#[test]
fn identities() {
    assert_said(
        r#"
[resources.a]
endpoint = "https://a.openai.azure.com"
entra = { kind = "certificate" }
[resources.b]
endpoint = "https://b.openai.azure.com"
entra = { kind = "client_secret", tenant_id = "t", client_secret = "env:KEY", authority = "http://login.contoso.com" }
[resources.c]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
entra = { kind = "managed_identity" }
[resources.d]
kind = "openai"
endpoint = "https://api.openai.com/v1"
entra = { kind = "managed_identity" }
[resources.e]
endpoint = "https://e.openai.azure.com"
entra = { kind = "managed_identity", clientid = "x", scope = "all" }
[resources.f]
endpoint = "https://f.openai.azure.com"
entra = "managed_identity"
"#,
        r#"
error: `resources.a.entra.kind` must be "managed_identity", "workload_identity" or "client_secret", not the text "certificate"
  --> settings/20-x.toml:3:18
   |
 3 | entra = { kind = "certificate" }
   |                  ^^^^^^^^^^^^^
error: resources.b.entra: no `client_id`
  --> settings/20-x.toml:6:1
   |
 6 | entra = { kind = "client_secret", tenant_id = "t", client_secret = "env:KEY", authority = "http://login.contoso.com" }
   | ^^^^^
   = tip: add client_id = "…", or set AZURE_CLIENT_ID in the environment
error: `resources.b.entra.authority` is http://: secrets would travel in clear
  --> settings/20-x.toml:6:91
   |
 6 | entra = { kind = "client_secret", tenant_id = "t", client_secret = "env:KEY", authority = "http://login.contoso.com" }
   |                                                                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: write https://
error: `resources.c.entra` stands beside `api_key`, and a resource is called with one of them
   --> settings/20-x.toml:10:1
    |
 10 | entra = { kind = "managed_identity" }
    | ^^^^^
    = tip: remove one of the two
error: `resources.d.entra` is for Azure only: an endpoint of kind "openai" takes an `api_key`
   --> settings/20-x.toml:14:1
    |
 14 | entra = { kind = "managed_identity" }
    | ^^^^^
error: unknown setting `clientid`
   --> settings/20-x.toml:17:38
    |
 17 | entra = { kind = "managed_identity", clientid = "x", scope = "all" }
    |                                      ^^^^^^^^ not a setting of [resources.*.entra]
    = tip: did you mean `client_id`?
error: `resources.e.entra.scope` must be a scope such as "https://ai.azure.com/.default", not the text "all"
   --> settings/20-x.toml:17:62
    |
 17 | entra = { kind = "managed_identity", clientid = "x", scope = "all" }
    |                                                              ^^^^^
error: `resources.f.entra` must be a table such as { kind = "managed_identity" }, not the text "managed_identity"
   --> settings/20-x.toml:20:9
    |
 20 | entra = "managed_identity"
    |         ^^^^^^^^^^^^^^^^^^
"#,
    );
}
