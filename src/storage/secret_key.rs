//! What a key's secret looks like, and how one is made. Pure but for the system's random numbers.
//!
//! A generated secret is 52 characters: `sk-gw-`, the public id (8 characters, shown in lists so that a leaked key can
//! be told from others), the secret part (32 characters of base 62: 190 random bits), and a checksum of all before it
//! (CRC-32 in 6 characters of base 62), by which a scanner or the gateway knows a mistyped key without asking anyone.
//! Only the SHA-256 of the whole is stored: of 190 random bits nothing can be guessed back, so a slow hash would buy
//! nothing and cost every request.

use sha2::{Digest, Sha256};

/// How every generated secret begins.
pub const PREFIX: &str = "sk-gw-";
/// How the shown part of a key of Azure's begins that a caller brought: no key of this gateway's making.
pub const BROUGHT_PREFIX: &str = "azure:";
const ADMIN_PREFIX: &str = "adm-gw-";
/// Taken by secrets of another kind in OpenAI's clients (ChatGPT-Next-Web's access codes).
const RESERVED: &str = "nk-";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PUBLIC_LENGTH: usize = 8;
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;

/// A secret in clear text, on its way to the one person who gets to see it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret {
    pub text: String,
    /// What may be shown of it: `sk-gw-` and the public id; empty for a chosen one.
    pub prefix: String,
}

/// Why a chosen secret is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSecret {
    #[error("a secret has 8 to 200 characters")]
    Length,
    #[error("a secret consists of visible ASCII characters without spaces")]
    Characters,
    #[error("secrets that begin with `nk-` are access codes of another kind; choose another beginning")]
    Reserved,
    #[error(
        "a secret that begins with `sk-gw-` must be one that this gateway's software generated; this one is mistyped"
    )]
    Checksum,
    #[error("the system has no random numbers to make a secret of")]
    NoRandomness,
}

/// What is stored and looked up instead of a secret.
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether the text has the form and the checksum of a generated secret.
pub fn is_generated(text: &str) -> bool {
    let Some((body, checksum)) = text.split_at_checked(text.len().saturating_sub(CHECKSUM_LENGTH)) else {
        return false;
    };
    text.len() == PREFIX.len() + PUBLIC_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH
        && body.starts_with(PREFIX)
        && checksum == checksum_of(body)
}

impl KeySecret {
    pub fn generate() -> Result<Self, UnusableSecret> {
        let prefix = format!("{PREFIX}{}", random_text(PUBLIC_LENGTH)?);
        let body = format!("{prefix}{}", random_text(SECRET_LENGTH)?);
        let text = format!("{body}{}", checksum_of(&body));
        Ok(Self { text, prefix })
    }

    /// A secret that a person brought along.
    pub fn chosen(text: &str) -> Result<Self, UnusableSecret> {
        if !(8..=200).contains(&text.len()) {
            return Err(UnusableSecret::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UnusableSecret::Characters);
        }
        if text.starts_with(RESERVED) {
            return Err(UnusableSecret::Reserved);
        }
        if !text.starts_with(PREFIX) {
            return Ok(Self { text: text.to_owned(), prefix: String::new() });
        }
        if !is_generated(text) {
            return Err(UnusableSecret::Checksum);
        }
        let prefix = text.chars().take(PREFIX.len() + PUBLIC_LENGTH).collect();
        Ok(Self { text: text.to_owned(), prefix })
    }
}

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySecret").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A new admin key: unlike a caller's key at the first glance.
pub fn generate_admin_key() -> Result<String, UnusableSecret> {
    Ok(format!("{ADMIN_PREFIX}{}", random_text(SECRET_LENGTH)?))
}

fn random_text(length: usize) -> Result<String, UnusableSecret> {
    // Bytes above the largest multiple of 62 are thrown away, else some characters would come more often.
    const FAIR: u8 = 62 * 4;
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0_u8; 64];
        getrandom::fill(&mut bytes).map_err(|_| UnusableSecret::NoRandomness)?;
        let fair = bytes.into_iter().filter(|byte| *byte < FAIR).take(length - text.len());
        text.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    Ok(text)
}

fn checksum_of(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_has_the_documented_layout() {
        let secret = KeySecret::generate().unwrap();
        assert_eq!(secret.text.len(), 52);
        assert_eq!(secret.prefix.len(), 14);
        assert!(secret.text.starts_with(&secret.prefix) && is_generated(&secret.text));
        assert_ne!(secret, KeySecret::generate().unwrap());
        assert_eq!(KeySecret::chosen(&secret.text), Ok(secret));
    }

    #[test]
    fn one_wrong_character_is_noticed() {
        let text = KeySecret::generate().unwrap().text;
        for at in 0..text.len() {
            let mut typo = text.clone().into_bytes();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_generated(std::str::from_utf8(&typo).unwrap()), "at {at}");
        }
        assert!(!is_generated("sk-gw-ä") && !is_generated("") && !is_generated("äöü"));
    }

    #[test]
    fn chosen_secrets_are_taken_as_they_are_or_refused_with_the_reason() {
        assert_eq!(KeySecret::chosen("team-token-1").unwrap().prefix, "");
        assert_eq!(KeySecret::chosen("1234567"), Err(UnusableSecret::Length));
        assert_eq!(KeySecret::chosen(&"a".repeat(201)), Err(UnusableSecret::Length));
        assert_eq!(KeySecret::chosen("with space"), Err(UnusableSecret::Characters));
        assert_eq!(KeySecret::chosen("pässword"), Err(UnusableSecret::Characters));
        assert_eq!(KeySecret::chosen("nk-12345678"), Err(UnusableSecret::Reserved));
        assert_eq!(KeySecret::chosen("sk-gw-12345678"), Err(UnusableSecret::Checksum));
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = KeySecret::chosen("team-token-1").unwrap();
        assert!(!format!("{secret:?}").contains("team"));
    }
}
