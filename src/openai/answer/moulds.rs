//! The moulds that streams share.
//!
//! Streams that are given to their clients in the same way share them: there are a few for all streams of a deployment, and
//! they stay in the processor's caches, where each stream's own would be read anew for every chunk.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use super::mould::{Fit, Hole, Mould, Places};
use super::{Seen, Speaks, StreamWatch};
use crate::openai::edits::Edits;
use crate::openai::shape::{Shape, Shaper};

/// More casts than events that fitted: a stream's events differ elsewhere, too, and it is not tried for ever; nor do they
/// take the place of what other streams have in common.
pub(super) const MOST_CASTS: u8 = 8;
/// Kinds of events: with a role, with text, with calls of tools, the last one; of a few versions of a model.
const MOST_MOULDS: usize = 8;
/// Ways of giving streams to clients that are remembered.
const MOST_SHARED: usize = 16;

/// They are tried from the last to the first.
#[derive(Debug, Default)]
pub(super) struct Moulds {
    moulds: Vec<Mould>,
}

/// Those of the streams of one API that are given to their clients by equal shapers.
struct Shared {
    speaks: Speaks,
    shaper: Shaper,
    moulds: Rc<RefCell<Moulds>>,
}

/// What streams have in common, for each API and each way of giving them to clients. A thread has one.
#[derive(Default)]
pub struct Common(VecDeque<Shared>);

impl Common {
    fn moulds(&mut self, speaks: Speaks, shaper: &Shaper) -> Rc<RefCell<Moulds>> {
        let known = self.0.iter().find(|known| known.speaks == speaks && known.shaper == *shaper);
        if let Some(known) = known {
            return known.moulds.clone();
        }
        let moulds = Rc::<RefCell<Moulds>>::default();
        if self.0.len() == MOST_SHARED {
            self.0.pop_front();
        }
        self.0.push_back(Shared { speaks, shaper: shaper.apart(), moulds: moulds.clone() });
        moulds
    }
}

impl Moulds {
    /// Of an event in which that was seen; tells whether there is one now.
    pub(super) fn cast(&mut self, event: &[u8], holes: impl Iterator<Item = Hole>, seen: &Seen) -> bool {
        let Some(mould) = Mould::cast(event, holes, seen) else { return false };
        if self.moulds.len() == MOST_MOULDS
            && let Some(idlest) = (0..MOST_MOULDS).min_by_key(|index| self.moulds[*index].fits)
        {
            self.moulds.remove(idlest);
        }
        self.moulds.push(mould);
        true
    }

    pub(super) fn fit(&mut self, event: &[u8]) -> Option<Fit> {
        let (index, found, length) = self.find(event)?;
        (length == event.len()).then(|| self.used(index).fit(&found))
    }

    /// Which one fits the beginning of `bytes`, where the values stand in it, and how long that event is.
    fn find(&self, bytes: &[u8]) -> Option<(usize, Places, usize)> {
        self.moulds.iter().enumerate().rev().find_map(|(index, mould)| {
            let (found, length) = mould.find(bytes)?;
            Some((index, found, length))
        })
    }

    /// What fits more often than what is tried before it takes its place.
    fn used(&mut self, index: usize) -> &Mould {
        self.moulds[index].fits += 1;
        if self.moulds[index].fits == u16::MAX {
            self.moulds.iter_mut().for_each(|mould| mould.fits /= 2);
        }
        let next = index + 1;
        if self.moulds.get(next).is_some_and(|next| next.fits < self.moulds[index].fits) {
            self.moulds.swap(index, next);
            return &self.moulds[next];
        }
        &self.moulds[index]
    }
}

impl StreamWatch {
    /// What is alike is sent alike: from now on its events are compared with those of all streams of `common` that are given
    /// to their clients by an equal shaper.
    #[must_use]
    pub fn shared_by(self, shaper: &Shaper, common: &mut Common) -> Self {
        Self { moulds: common.moulds(self.speaks, shaper), ..self }
    }

    /// Reads the event at the beginning of `bytes` if it is like one before, and hands over what is to be changed in it; gives
    /// its length. `None`: it is to be read, if it is one.
    pub fn read_alike(&mut self, bytes: &[u8], change: impl FnOnce(&[u8], &Edits<'_>)) -> Option<usize> {
        let moulds = self.moulds.clone();
        let mut moulds = moulds.borrow_mut();
        let (index, found, length) = moulds.find(bytes)?;
        change(&bytes[..length], &moulds.moulds[index].edits(&found)?);
        self.casts = self.casts.saturating_sub(1);
        moulds.used(index).texts(&found).for_each(|text| self.keep(&bytes[text]));
        Some(length)
    }

    /// Told what is to be changed in the event that was read last.
    pub(in crate::openai) fn is_sent(&mut self, edits: &Edits<'_>) {
        if std::mem::take(&mut self.was_cast)
            && let Some(mould) = self.moulds.borrow_mut().moulds.last_mut()
        {
            mould.is_sent(edits);
        }
    }
}

impl Shaper {
    /// A copy that does not hold on to the request that it was made from.
    fn apart(&self) -> Self {
        let shape = match &self.shape {
            Shape::Azure => Shape::Azure,
            Shape::OpenAi { model } => Shape::OpenAi { model: Bytes::copy_from_slice(model) },
        };
        Self { shape, hide: self.hide }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use bytes::Bytes;

    use super::{Common, MOST_MOULDS};
    use crate::openai::answer::StreamWatch;
    use crate::openai::shape::{HideUsage, Shape, Shaper};

    fn chunk(text: &str, more: &str) -> String {
        format!(
            "data: {{\"choices\":[{{\"content_filter_results\":{{}},\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null,\
             \"index\":0}}],\"id\":\"a\",\"model\":\"gpt-4o-2024-08-06\"{more},\"usage\":null}}\n\n"
        )
    }

    /// Reads the events one after the other, and each by itself: what is seen must be the same.
    fn compare(events: &[String]) -> usize {
        let (mut one_by_one, mut fitting) = (Vec::new(), 0);
        let mut watch = StreamWatch::default();
        for event in events {
            let event = event.as_bytes();
            fitting += usize::from(watch.moulds.borrow_mut().fit(event).is_some());
            let mut alone = StreamWatch::default();
            assert_eq!(watch.read(event), alone.read(event), "{}", String::from_utf8_lossy(event));
            assert_eq!(watch.seen, alone.seen, "{}", String::from_utf8_lossy(event));
            one_by_one.extend_from_slice(&alone.text);
        }
        assert_eq!(watch.text, one_by_one);
        let alike = send(events);
        assert!(alike <= fitting);
        fitting
    }

    /// What a client is given of the events, the quick way and the long one; gives how many went the quick one.
    fn send(events: &[String]) -> usize {
        let shaper = Shaper { shape: Shape::OpenAi { model: Bytes::from_static(b"\"gpt-4o\"") }, hide: HideUsage::Yes };
        let (mut watch, mut alike) = (StreamWatch::default(), 0);
        for event in events {
            let mut alone = StreamWatch::default();
            let read = alone.read(event.as_bytes());
            let expected = shaper.edits(event.as_bytes(), &read, &mut alone).made(event.as_bytes());
            let followed = format!("{event}data: more\n\n");
            let mut made = None;
            let length = watch.read_alike(followed.as_bytes(), |alike, edits| made = Some(edits.made(alike)));
            assert!(length.is_none_or(|length| length == event.len()), "{event}");
            alike += usize::from(length.is_some());
            let made = made.unwrap_or_else(|| {
                let read = watch.read(event.as_bytes());
                shaper.edits(event.as_bytes(), &read, &mut watch).made(event.as_bytes())
            });
            assert_eq!(made, expected, "{event}");
            let text = String::from_utf8_lossy(&alone.text).into_owned();
            assert!(String::from_utf8_lossy(&watch.text).ends_with(&text), "{event}");
        }
        alike
    }

    #[test]
    fn what_is_alike_is_sent_alike_without_another_look() {
        let mut events: Vec<_> = ["Hello", " there", "", "\\n"].iter().map(|text| chunk(text, "")).collect();
        assert_eq!(send(&events), 3);
        events.push(chunk("stop", "").replace("null,\"index", "\"stop\",\"index"));
        events.push(chunk("no more", "").replace("null,\"index", "\"stop\",\"index"));
        assert_eq!(send(&events), 4, "of another kind, once it was read");
        let returning: Vec<_> = events.iter().map(|event| event.replace("\n\n", "\r\r")).collect();
        assert_eq!(send(&returning), 0);
    }

    #[test]
    fn the_kind_that_comes_most_often_is_tried_first_and_kept_longest() {
        let mut watch = StreamWatch::default();
        let last = chunk("", "").replace("null,\"index", "\"stop\",\"index");
        for event in [chunk("Hello", ""), last.clone(), chunk(" there", ""), last.clone(), chunk(" again", ""), last] {
            watch.read(event.as_bytes());
        }
        let place = |watch: &StreamWatch| {
            let moulds = watch.moulds.borrow();
            (moulds.find(chunk("x", "").as_bytes()).unwrap().0, moulds.moulds.len())
        };
        assert_eq!(place(&watch), (1, 2));
        let mut others = StreamWatch { moulds: watch.moulds.clone(), ..StreamWatch::default() };
        for n in 0..MOST_MOULDS {
            others.casts = 0;
            others.read(chunk("x", &format!(",\"n\":{n}")).as_bytes());
        }
        let (index, count) = place(&watch);
        assert!(index < count && count == MOST_MOULDS, "it is still there");
    }

    #[test]
    fn counts_that_run_full_keep_their_proportion() {
        let mut watch = StreamWatch::default();
        let last = chunk("", "").replace("null,\"index", "\"stop\",\"index");
        for event in [chunk("Hello", ""), last] {
            watch.read(event.as_bytes());
        }
        let mut moulds = watch.moulds.borrow_mut();
        (moulds.moulds[0].fits, moulds.moulds[1].fits) = (1000, u16::MAX - 1);
        for fits in [(500, u16::MAX / 2), (500, u16::MAX / 2 + 1)] {
            moulds.used(1);
            assert_eq!((moulds.moulds[0].fits, moulds.moulds[1].fits), fits);
        }
    }

    #[test]
    fn events_that_differ_in_their_text_are_not_read_again() {
        let padded = |text: &str, padding: &str| chunk(text, &format!(",\"obfuscation\":\"{padding}\""));
        let events =
            [chunk("Hello", ""), chunk(" there", ""), chunk("", ""), chunk("\\n\\u00e9\\\"", ""), chunk("é", "")];
        assert_eq!(compare(&events), events.len() - 1);
        let events = [padded("Hello", "xyz"), padded(" the", "abcdef"), padded("", "")];
        assert_eq!(compare(&events), events.len() - 1);
    }

    #[test]
    fn another_stream_of_the_same_kind_is_alike_and_nothing_said_is_kept() {
        let of = |id: &str, created: u64, text: &str| {
            format!(
                "data: {{\"id\":\"{id}\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\
                 \"created\":{created},\"usage\":null}}\n\n"
            )
        };
        let events = [of("chatcmpl-1", 9, "a secret"), of("chatcmpl-22", 10, "no"), of("", 1_763_715_000, "")];
        assert_eq!((compare(&events), send(&events)), (2, 2));
        let shaper = Shaper { shape: Shape::Azure, hide: HideUsage::No };
        let mut common = Common::default();
        let mut watch = || StreamWatch::default().shared_by(&shaper, &mut common);
        let (mut one, mut other) = (watch(), watch());
        let read = one.read(events[0].as_bytes());
        shaper.edits(events[0].as_bytes(), &read, &mut one);
        assert_eq!(other.read_alike(events[1].as_bytes(), |_, edits| assert!(edits.is_empty())), Some(events[1].len()));
        assert_eq!(other.text(), ("no".to_owned(), 0));
        let kept = format!("{:?}", one.moulds);
        let shows = |text: &str| kept.contains(format!("{:?}", text.as_bytes()).trim_matches(['[', ']']));
        assert!(shows("content") && !shows("secret"), "{kept}");
        let hiding = Shaper { hide: HideUsage::Yes, ..shaper.clone() };
        let mut another = StreamWatch::default().shared_by(&hiding, &mut common);
        assert_eq!(another.read_alike(events[1].as_bytes(), |_, _| {}), None, "given in another way");
    }

    #[test]
    fn a_stream_without_two_events_alike_keeps_nothing_from_the_others() {
        let shaper = Shaper { shape: Shape::Azure, hide: HideUsage::No };
        let send = |watch: &mut StreamWatch, event: &str| {
            let read = watch.read(event.as_bytes());
            shaper.edits(event.as_bytes(), &read, watch);
        };
        let mut common = Common::default();
        let mut odd = StreamWatch::default().shared_by(&shaper, &mut common);
        (0..100).for_each(|n| send(&mut odd, &chunk("x", &format!(",\"n\":{n}"))));
        let mut usual = StreamWatch::default().shared_by(&shaper, &mut common);
        send(&mut usual, &chunk("Hello", ""));
        assert!(usual.read_alike(chunk(" there", "").as_bytes(), |_, _| {}).is_some());
        send(&mut odd, &chunk("x", ",\"n\":\"new\""));
        assert_eq!(odd.read_alike(chunk("x", ",\"n\":\"new\"").as_bytes(), |_, _| {}), None, "it is tried no more");
    }

    #[test]
    fn what_differs_elsewhere_is_read() {
        let first = chunk("Hello", "");
        for other in [
            first.replace("null,\"index", "\"stop\",\"index"),
            first.replace("}]", "},{\"delta\":{\"content\":\"x\"},\"index\":1}]"),
            first.replace("\"content\":\"Hello\"", "\"content\":null"),
            first.replace("Hello", "a\nb"),
            first.replace("Hello", "a\\x"),
            first.replace("Hello\"", "Hello"),
            first.replace("\"usage\":null", "\"usage\":{\"prompt_tokens\":1}"),
            first.replace("\"id\":\"a\"", "\"error\":{\"code\":\"x\"}"),
            first.replace("\n\n", "\r\n\r\n"),
            "data: [DONE]\n\n".to_owned(),
            first[..first.len() / 2].to_owned(),
            String::new(),
        ] {
            assert_eq!(compare(&[first.clone(), other.clone()]), 0, "{other}");
        }
        let differing: Vec<_> = (0..100).map(|n| chunk("x", &format!(",\"n\":{n}"))).collect();
        assert_eq!(compare(&differing), 0);
    }

    proptest! {
        #[test]
        fn a_stream_is_read_as_its_events_are(
            parts in prop::collection::vec(("[a-z \"\\\\n\u{e9}\u{7}]{0,6}", 0_usize..4, "[a-z]{0,5}"), 1..12)
        ) {
            let events: Vec<_> = parts
                .iter()
                .map(|(text, kind, padding)| match kind {
                    0 | 1 => chunk(text, ""),
                    2 => chunk(text, &format!(",\"obfuscation\":\"{padding}\"")),
                    _ => chunk(text, "").replace("\"index\"", &format!("\"text\":\"{padding}\",\"index\"")),
                })
                .collect();
            compare(&events);
        }
    }
}
