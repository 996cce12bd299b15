//! What is on a disk after a power cut, from the writes and flushes before it.
//!
//! The model: what a flush confirmed is there. Of what was written to a file since, any writes may be there and any may be
//! not, in any combination, and each of them may be torn at a sector of 512 bytes. Lengths are as the writes that are
//! there made them. That a file exists is not in doubt: the folder was flushed before.

use std::path::Path;

/// One entry of the shim's trace.
#[derive(Clone, Debug)]
pub enum Event {
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: usize,
        length: usize,
    },
    Flush {
        file: usize,
    },
    FailedFlush,
    /// What the process said.
    Said(String),
}

pub fn read(trace: &Path) -> Vec<Event> {
    let bytes = std::fs::read(trace).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(14) {
        let (kind, file) = (head[0], usize::from(head[1]).saturating_sub(1));
        let offset = usize::try_from(i64::from_le_bytes(head[2..10].try_into().unwrap())).unwrap();
        let length = u32::from_le_bytes(head[10..14].try_into().unwrap()) as usize;
        // A process that was killed may have left half an entry.
        let Some((bytes, after)) = after.split_at_checked(length) else { break };
        rest = after;
        events.push(match kind {
            b'W' => Event::Write { file, at: offset, bytes: bytes.to_vec() },
            b'T' => Event::Truncate { file, length: offset },
            b'S' => Event::Flush { file },
            b'F' => Event::FailedFlush,
            b'O' => Event::Said(String::from_utf8_lossy(bytes).into_owned()),
            other => panic!("no such entry: {other}"),
        });
    }
    events
}

/// The database and its log as the platters have them, and what is still on its way there.
#[derive(Clone, Default)]
pub struct Disk {
    files: [Vec<u8>; 2],
    unsure: [Vec<Event>; 2],
}

impl Disk {
    /// All of it is safe.
    pub fn with(database: Vec<u8>) -> Self {
        Self { files: [database, Vec::new()], ..Self::default() }
    }

    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Write { file, .. } | Event::Truncate { file, .. } => self.unsure[*file].push(event.clone()),
            Event::Flush { file } => {
                for event in std::mem::take(&mut self.unsure[*file]) {
                    apply(&mut self.files[*file], &event);
                }
            }
            Event::FailedFlush | Event::Said(_) => {}
        }
    }

    /// The two files after a cut at this moment.
    pub fn after_a_cut(&self, random: &mut fastrand::Rng) -> [Vec<u8>; 2] {
        let mut files = self.files.clone();
        // One cut in three loses everything that was not flushed.
        let luck = [0.0, 0.5, 0.9][random.usize(..3)];
        for (file, unsure) in files.iter_mut().zip(&self.unsure) {
            for event in unsure {
                if random.f64() >= luck {
                    continue;
                }
                match event {
                    Event::Write { file: which, at, bytes } if random.u8(..4) == 0 => {
                        let kept = random.usize(..=bytes.len() / 512) * 512;
                        apply(file, &Event::Write { file: *which, at: *at, bytes: bytes[..kept].to_vec() });
                    }
                    whole => apply(file, whole),
                }
            }
        }
        files
    }
}

fn apply(file: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { at, bytes, .. } => {
            if file.len() < at + bytes.len() {
                file.resize(at + bytes.len(), 0);
            }
            file[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Event::Truncate { length, .. } => file.resize(*length, 0),
        Event::Flush { .. } | Event::FailedFlush | Event::Said(_) => {}
    }
}
