//! fredliu168/Azure_proxy.

use super::{AZURE_KEY, HELLO, Place, chat, curl, says};

const RUN: [(&str, &str); 4] = [
    ("AZURE_OPENAI_API_KEY", AZURE_KEY),
    ("AZURE_ENDPOINT", "https://contoso.openai.azure.com/"),
    ("AZURE_OPENAI_API_VERSION", "2023-07-01-preview"),
    ("AUTH_KEY", "shared-by-all"),
];

#[test]
fn the_documented_run() {
    let place = Place::with(&["gpt-35-turbo", "gpt-35-turbo-16k"]);
    let gateway = place.start(&RUN);
    // One key, behind whatever word.
    for scheme in ["Bearer", "Zork", "Basic"] {
        chat(&gateway, &format!("{scheme} shared-by-all"), HELLO).expect(200);
    }
    for model in ["gpt-35-turbo", "gpt-3.5-turbo-16k", "gpt-35-turbo-16k"] {
        chat(&gateway, "Bearer shared-by-all", &HELLO.replace("gpt-3.5-turbo", model)).expect(200);
    }
    let lines = "authorization: Bearer shared-by-all\r\nproxy-src: aliyun_azure\r\n";
    curl(&gateway, "/v1/chat/completions", lines, HELLO).expect(200);
    for wrong in ["", "Bearer wrong", "shared"] {
        says(&chat(&gateway, wrong, HELLO), 401, "Unauthorized");
    }
    // Its dictionary held the secrets beside the models.
    for secret in ["auth_key", "api_key", "AUTH_KEY"] {
        let answer = chat(&gateway, "Bearer shared-by-all", &HELLO.replace("gpt-3.5-turbo", secret));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "model_not_found"),
            "a page of HTML is no one's friend"
        );
    }
    gateway.stop();

    // Another key, and the old one is no longer good.
    let mut run = RUN;
    run[3].1 = "another-key";
    let gateway = place.start(&run);
    chat(&gateway, "Bearer another-key", HELLO).expect(200);
    assert_eq!(chat(&gateway, "Bearer shared-by-all", HELLO).status, 401);
    gateway.stop();
}
