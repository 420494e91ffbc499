//! `fragment::Assembler`: the same fragments however their bytes are cut, and events in an order that
//! what comes after it can rely on.

#![no_main]

use bytes::Bytes;
use gst_plugin_kvsgetmedia_fuzz::{
    ebml::Error,
    fragment::{Assembler, Event},
    in_chunks, sizes_and_body,
};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Read {
    assembler: Assembler,
    events: Vec<Event>,
    begun: bool,
    clustered: bool,
    end: u64,
}

impl Read {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.assembler.push(chunk);
        while let Some(event) = self.assembler.next()? {
            self.check(&event);
            self.events.push(event);
        }
        if let Some(head) = self.assembler.announced() {
            assert!(!head.number.is_empty());
        }
        Ok(())
    }

    fn check(&mut self, event: &Event) {
        match event {
            Event::Begin(head) => {
                assert!(!self.begun, "no fragment within a fragment");
                self.begun = true;
                self.clustered = false;
                kept(&head.tags);
                assert!(head.number.as_str().len() <= 1024);
            }
            Event::Cluster(_) => self.clustered = true,
            Event::Block(block) => {
                assert!(self.clustered, "a cluster comes first");
                let span = block.span;
                assert!(
                    span.start >= self.end && span.end > span.start,
                    "blocks in order"
                );
                assert!(span.start < block.track_at && block.track_at < block.time_at);
                assert!(block.time_at + 2 < span.end, "its flags are there");
                assert!(block.frames > 0);
                let bytes = self.assembler.rope().bytes(span);
                assert_eq!(bytes.len() as u64, span.len());
                self.end = span.end;
            }
            Event::End(end) => {
                assert!(self.begun, "what ends has begun");
                self.begun = false;
                kept(&end.tags);
                assert!(end.bytes <= end.offset && end.offset >= self.end);
                assert!(
                    end.continuation_token
                        .as_ref()
                        .is_none_or(|token| token.len() <= 1024)
                );
            }
            Event::Fault(error) => assert!(error.id.is_some()),
        }
    }
}

fn kept(tags: &[gst_plugin_kvsgetmedia_fuzz::item::Tag]) {
    assert!(tags.len() <= 256, "few are kept");
    assert!(
        tags.iter()
            .all(|tag| !tag.name.is_empty() && !tag.name.starts_with("AWS"))
    );
}

fuzz_target!(|input: &[u8]| {
    let (sizes, body) = sizes_and_body(input);
    let mut whole = Read::default();
    let expected = whole.push(body.clone());
    let mut read = Read::default();
    let result = in_chunks(&body, &sizes).try_for_each(|chunk| read.push(chunk));
    assert_eq!(result, expected);
    assert_eq!(read.events, whole.events);
});
