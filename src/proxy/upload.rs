//! A form on its way from a client to an upstream: passed on as it comes, and kept only as far as that is cheap.
//!
//! Its beginning is kept, so that a form that is short can be sent again elsewhere; of a long one that began to leave there
//! is one attempt. Where the v1 family needs the deployment's name in the form, the part is looked for in that beginning;
//! if it comes behind a long file, the form goes to a temporary file first, which can be sent as often as needed. Every
//! other byte is the client's own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::LocalBoxFuture;
use futures_core::stream::LocalBoxStream;

use crate::openai::multipart::{FormError, Part, Scanner};
use crate::upstream::client::{self, SenderGone};

/// Of each form that passes.
const KEPT: usize = 1 << 20;
/// Read from a temporary file, or written to it, at once.
const PAGE: usize = 256 << 10;

/// Why the client's part came to no good end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    TooLarge {
        limit: usize,
    },
    Slow,
    Broken,
    Form(FormError),
    /// There is no room for a temporary file.
    Disk,
}

/// What the client sends, with its limits already around it.
pub type Incoming = LocalBoxStream<'static, Result<Bytes, Cut>>;

/// What is watched for in the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    Nothing,
    /// May be there once, and may be exchanged.
    Model,
    /// Must not be there.
    Without(&'static str),
}

pub struct Upload {
    source: Rc<RefCell<Source>>,
    /// As announced.
    length: Option<u64>,
    boundary: String,
}

struct Source {
    rest: Incoming,
    has_ended: bool,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// More has come than is kept.
    is_lost: bool,
    spooled: Option<Spooled>,
    scanner: Option<Scanner>,
    watched: Watched,
    cut: Option<Cut>,
}

#[derive(Clone)]
struct Spooled {
    file: Arc<Mutex<File>>,
    length: u64,
}

impl Upload {
    pub fn new(rest: Incoming, length: Option<u64>, boundary: String, watched: Watched) -> Self {
        let scanner = match watched {
            Watched::Nothing => None,
            Watched::Model => Some(Scanner::new(&boundary, "model")),
            Watched::Without(name) => Some(Scanner::new(&boundary, name)),
        };
        let source = Source {
            rest,
            has_ended: false,
            kept: Vec::new(),
            kept_bytes: 0,
            is_lost: false,
            spooled: None,
            scanner,
            watched,
            cut: None,
        };
        Self { source: Rc::new(RefCell::new(source)), length, boundary }
    }

    /// Why the client's part ended before its time.
    pub fn cut(&self) -> Option<Cut> {
        self.source.borrow().cut
    }

    /// Whether all of it can still be sent.
    pub fn is_there(&self) -> bool {
        let source = self.source.borrow();
        !source.is_lost && source.cut.is_none()
    }

    /// Reads until the `model` has come; a form that has it behind a long file is read whole, to a temporary file.
    pub async fn model(&self) -> Result<Option<String>, Cut> {
        loop {
            {
                let source = self.source.borrow();
                let found = source.scanner.as_ref().and_then(Scanner::found);
                if found.is_some() || source.has_ended {
                    return Ok(found.map(|part| part.value.clone()));
                }
                if source.kept_bytes >= KEPT {
                    break;
                }
            }
            let next = poll_fn(|cx| self.source.borrow_mut().poll_rest(cx)).await;
            if let Some(bytes) = next.transpose()? {
                self.source.borrow_mut().keep(bytes);
            }
        }
        self.spool().await?;
        let source = self.source.borrow();
        Ok(source.scanner.as_ref().and_then(Scanner::found).map(|part| part.value.clone()))
    }

    async fn spool(&self) -> Result<(), Cut> {
        let disk = |error: std::io::Error| {
            tracing::error!(%error, "a form cannot be put into a temporary file");
            Cut::Disk
        };
        let kept = std::mem::take(&mut self.source.borrow_mut().kept);
        let made = actix_web::web::block(move || {
            let mut file = tempfile::tempfile()?;
            kept.iter().try_for_each(|bytes| file.write_all(bytes))?;
            Ok(file)
        });
        let file = Arc::new(Mutex::new(made.await.map_err(|_| Cut::Disk)?.map_err(disk)?));
        let mut length = self.source.borrow().kept_bytes as u64;
        let mut page = Vec::with_capacity(PAGE);
        loop {
            let next = poll_fn(|cx| self.source.borrow_mut().poll_rest(cx)).await.transpose()?;
            let has_ended = next.is_none();
            if let Some(bytes) = next {
                length += bytes.len() as u64;
                page.extend_from_slice(&bytes);
            }
            if page.len() >= PAGE || has_ended {
                let (written, target) = (std::mem::replace(&mut page, Vec::with_capacity(PAGE)), file.clone());
                let write = move || target.lock().unwrap_or_else(PoisonError::into_inner).write_all(&written);
                actix_web::web::block(write).await.map_err(|_| Cut::Disk)?.map_err(disk)?;
            }
            if has_ended {
                break;
            }
        }
        let mut source = self.source.borrow_mut();
        (source.kept_bytes, source.spooled) = (0, Some(Spooled { file, length }));
        Ok(())
    }

    /// The form, to be sent; with this name as its model, where one is given. Only while [`Self::is_there`].
    pub fn send(&self, model: Option<&str>) -> client::Upload {
        let found = self.source.borrow().scanner.as_ref().and_then(|scanner| scanner.found().cloned());
        let edit = match (model, found) {
            (None, _) => None,
            (Some(name), Some(Part { span, .. })) => Some(Edit { span, text: Bytes::from(name.to_owned()) }),
            (Some(name), None) => {
                let head = "Content-Disposition: form-data; name=\"model\"";
                let text = format!("--{}\r\n{head}\r\n\r\n{name}\r\n", self.boundary);
                Some(Edit { span: 0..0, text: Bytes::from(text) })
            }
        };
        let added = edit.as_ref().map_or((0, 0), |edit| (edit.text.len() as u64, edit.span.end - edit.span.start));
        let spooled = self.source.borrow().spooled.clone();
        let length = spooled.as_ref().map(|spooled| spooled.length).or(self.length);
        let bytes = Sending {
            source: self.source.clone(),
            spooled,
            reading: None,
            kept: 0,
            position: 0,
            edit,
            ready: VecDeque::new(),
        };
        client::Upload { length: length.map(|length| length + added.0 - added.1), bytes: Box::pin(bytes) }
    }
}

impl Source {
    /// More from the client; it is looked through, and its failure is remembered.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if let Some(cut) = self.cut {
            return Poll::Ready(Some(Err(cut)));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.rest.as_mut().poll_next(cx));
        let seen = next.transpose().and_then(|bytes| {
            if let (Some(bytes), Some(scanner)) = (&bytes, &mut self.scanner) {
                scanner.feed(bytes).map_err(Cut::Form)?;
                if let (Watched::Without(name), Some(_)) = (self.watched, scanner.found()) {
                    return Err(Cut::Form(FormError::Forbidden(name)));
                }
            }
            Ok(bytes)
        });
        match &seen {
            Ok(None) => self.has_ended = true,
            Ok(Some(_)) => {}
            Err(cut) => self.cut = Some(*cut),
        }
        Poll::Ready(seen.transpose())
    }

    fn keep(&mut self, bytes: Bytes) {
        self.kept_bytes += bytes.len();
        self.kept.push(bytes);
    }
}

/// A span of the form, and what is sent instead.
struct Edit {
    span: Range<u64>,
    text: Bytes,
}

/// One sending of a form.
struct Sending {
    source: Rc<RefCell<Source>>,
    spooled: Option<Spooled>,
    reading: Option<LocalBoxFuture<'static, std::io::Result<Bytes>>>,
    /// Pieces of what is kept that are sent already.
    kept: usize,
    /// In the client's form.
    position: u64,
    edit: Option<Edit>,
    ready: VecDeque<Bytes>,
}

impl Stream for Sending {
    type Item = Result<Bytes, SenderGone>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SenderGone>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            let next = match this.spooled.clone() {
                Some(spooled) => ready!(this.poll_file(spooled, cx)),
                None => ready!(this.poll_passing(cx)),
            };
            match next {
                Some(Ok(bytes)) => this.queue(bytes),
                Some(Err(SenderGone)) => return Poll::Ready(Some(Err(SenderGone))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Sending {
    fn poll_passing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SenderGone>>> {
        let mut source = self.source.borrow_mut();
        if let Some(bytes) = source.kept.get(self.kept) {
            self.kept += 1;
            return Poll::Ready(Some(Ok(bytes.clone())));
        }
        let next = ready!(source.poll_rest(cx)).transpose();
        Poll::Ready(match next {
            Ok(Some(bytes)) => {
                if !source.is_lost && source.kept_bytes + bytes.len() <= KEPT {
                    source.keep(bytes.clone());
                    self.kept += 1;
                } else {
                    source.is_lost = true;
                    source.kept = Vec::new();
                    self.kept = 0;
                }
                Some(Ok(bytes))
            }
            Ok(None) => None,
            Err(_) => Some(Err(SenderGone)),
        })
    }

    fn poll_file(&mut self, spooled: Spooled, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SenderGone>>> {
        let position = self.position;
        if position >= spooled.length {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            Box::pin(async move {
                let read = move || {
                    let mut file = spooled.file.lock().unwrap_or_else(PoisonError::into_inner);
                    file.seek(SeekFrom::Start(position))?;
                    let left = usize::try_from(spooled.length - position).unwrap_or(PAGE).min(PAGE);
                    let mut page = vec![0; left];
                    file.read_exact(&mut page)?;
                    Ok(Bytes::from(page))
                };
                actix_web::web::block(read).await.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()))
            })
        });
        let read = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(Some(read.map_err(|error| {
            tracing::error!(%error, "a form cannot be read back from its temporary file");
            self.source.borrow_mut().cut = Some(Cut::Disk);
            SenderGone
        })))
    }

    /// Queues what is to be sent of these bytes of the form.
    fn queue(&mut self, bytes: Bytes) {
        let from = self.position;
        self.position += bytes.len() as u64;
        let Some(Edit { span, text }) = &self.edit else {
            self.ready.push_back(bytes);
            return;
        };
        let at = |place: u64| usize::try_from(place.saturating_sub(from)).unwrap_or(usize::MAX).min(bytes.len());
        self.ready.push_back(bytes.slice(..at(span.start)));
        if (from..self.position).contains(&span.start) {
            self.ready.push_back(text.clone());
        }
        self.ready.push_back(bytes.slice(at(span.end)..));
    }
}

#[cfg(test)]
mod tests;
