//! Forms (`multipart/form-data`), read whole: a simulator has the memory for it.

use super::request::Request;

/// One part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content: &'a [u8],
}

/// The parts in their order; `None` when it is no form, or is not whole.
pub(super) fn read(request: &Request) -> Option<Vec<Part<'_>>> {
    let kind = request.header("content-type")?;
    let boundary = kind.strip_prefix("multipart/form-data")?.split_once("boundary=")?.1.split(';').next()?;
    parts(&request.body, boundary.trim().trim_matches('"'))
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<Part<'a>>> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..])?;
    let mut found = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(found);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = memchr::memmem::find(rest, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
        let content = &rest[head_end + 4..];
        let end = memchr::memmem::find(content, delimiter.as_bytes())?;
        let quoted = |name: &str| {
            let from = head.find(&format!(" {name}=\""))? + name.len() + 3;
            head[from..].split('"').next().map(str::to_owned)
        };
        let (name, filename) = (quoted("name").unwrap_or_default(), quoted("filename"));
        found.push(Part { name, filename, content: &content[..end] });
        rest = &content[end + delimiter.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_in_order() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b\r\nContent-Disposition: \
                     form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\x00\r\n\xff\r\n--b--\r\n";
        let found = parts(body, "b").unwrap();
        assert_eq!((found[0].name.as_str(), found[0].content, found.len()), ("model", &b"whisper"[..], 2));
        assert_eq!((found[1].filename.as_deref(), found[1].content), (Some("a.wav"), &b"\x00\r\n\xff"[..]));
        assert_eq!(parts(b"--b\r\ncut", "b"), None);
    }
}
