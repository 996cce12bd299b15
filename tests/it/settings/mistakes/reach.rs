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
