use std::cell::Cell;

use futures_util::{StreamExt, stream};

use super::*;

const HEAD: &str = "--XX\r\nContent-Disposition: form-data; name=";

/// A form with this much of a file, and the model before or behind it.
fn form(file: usize, model_first: bool) -> Vec<u8> {
    let model = format!("{HEAD}\"model\"\r\n\r\nwhisper\r\n").into_bytes();
    let content: Vec<u8> = (0..file).map(|n| (n % 251) as u8).collect();
    let file = [format!("{HEAD}\"file\"; filename=\"a.wav\"\r\n\r\n").as_bytes(), &content, b"\r\n"].concat();
    let parts = if model_first { [model, file] } else { [file, model] };
    [parts.concat(), b"--XX--\r\n".to_vec()].concat()
}

fn upload(form: &[u8], watched: Watched) -> (Upload, Rc<Cell<usize>>) {
    let taken = Rc::new(Cell::new(0));
    let count = taken.clone();
    let chunks: Vec<_> = form.chunks(16 * 1024).map(Bytes::copy_from_slice).collect();
    let incoming = stream::iter(chunks).map(move |chunk| {
        count.set(count.get() + chunk.len());
        Ok(chunk)
    });
    (Upload::new(incoming.boxed_local(), Some(form.len() as u64), "XX".into(), watched), taken)
}

async fn sent(upload: &Upload, model: Option<&str>) -> Vec<u8> {
    let client::Upload { length, mut bytes } = upload.send(model);
    let mut whole = Vec::new();
    while let Some(chunk) = bytes.next().await {
        whole.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(length, Some(whole.len() as u64), "what was announced is what came");
    whole
}

fn exchanged(form: &[u8], name: &str) -> Vec<u8> {
    let at = memchr::memmem::find(form, b"\r\n\r\nwhisper\r\n").unwrap() + 4;
    [&form[..at], name.as_bytes(), &form[at + "whisper".len()..]].concat()
}

#[actix_rt::test]
async fn a_short_form_can_be_sent_again_and_a_long_one_once() {
    let short = form(900_000, true);
    let (upload, _) = self::upload(&short, Watched::Nothing);
    for _ in 0..2 {
        assert!(upload.is_there());
        assert_eq!(sent(&upload, None).await, short);
    }
    let long = form(3 << 20, true);
    let (upload, _) = self::upload(&long, Watched::Nothing);
    assert_eq!(sent(&upload, None).await, long);
    assert!(!upload.is_there());
    assert_eq!(upload.source.borrow().kept.len(), 0, "nothing of it is kept");
}

#[actix_rt::test]
async fn a_model_before_the_file_is_read_without_the_file() {
    let form = form(3 << 20, true);
    let (upload, taken) = upload(&form, Watched::Model);
    assert_eq!(upload.model().await, Ok(Some("whisper".into())));
    assert!(taken.get() <= 16 * 1024, "{} bytes were read", taken.get());
    assert_eq!(sent(&upload, Some("my-deployment")).await, exchanged(&form, "my-deployment"));
    assert!(!upload.is_there());
}

#[actix_rt::test]
async fn a_model_behind_a_long_file_is_found_and_the_form_can_be_sent_as_often_as_needed() {
    for size in [10, 3 << 20] {
        let form = form(size, false);
        let (upload, _) = upload(&form, Watched::Model);
        assert_eq!(upload.model().await, Ok(Some("whisper".into())));
        for name in ["a", "whisper", "a-much-longer-name-than-that"] {
            assert!(upload.is_there());
            assert_eq!(sent(&upload, Some(name)).await, exchanged(&form, name));
        }
        assert_eq!(sent(&upload, None).await, form);
        assert_eq!(upload.source.borrow().spooled.is_some(), size > KEPT);
    }
}

#[actix_rt::test]
async fn a_form_without_a_model_is_given_one() {
    let form = form(10, true);
    let without = memchr::memmem::find(&form, b"--XX\r\nContent-Disposition: form-data; name=\"file\"").unwrap();
    let (upload, _) = upload(&form[without..], Watched::Model);
    assert_eq!(upload.model().await, Ok(None));
    assert_eq!(sent(&upload, Some("whisper")).await, form);
}

#[actix_rt::test]
async fn what_the_client_does_wrong_is_remembered() {
    let two = [form(3 << 20, true)[..].strip_suffix(b"--XX--\r\n").unwrap(), &form(0, true)[..]].concat();
    let (upload, _) = upload(&two, Watched::Model);
    assert_eq!(upload.model().await, Ok(Some("whisper".into())));
    let mut bytes = upload.send(Some("x")).bytes;
    let failed = loop {
        if let Err(gone) = bytes.next().await.expect("it ended well") {
            break gone;
        }
    };
    assert_eq!((failed.to_string().is_empty(), upload.cut()), (false, Some(Cut::Form(FormError::Twice("model")))));
    let (upload, _) = self::upload(&form(10, true), Watched::Without("model"));
    assert!(upload.send(None).bytes.next().await.unwrap().is_err());
    assert_eq!(upload.cut(), Some(Cut::Form(FormError::Forbidden("model"))));
    let broken = stream::iter([Ok(Bytes::from_static(b"--XX\r\n")), Err(Cut::Slow)]).boxed_local();
    let upload = Upload::new(broken, None, "XX".into(), Watched::Model);
    assert_eq!(upload.model().await, Err(Cut::Slow));
    assert!(!upload.is_there());
}
