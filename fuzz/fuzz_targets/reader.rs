//! `ebml::Reader`: whatever the bytes and however they are cut, the same events, which cover the body
//! without a hole; the bytes of a span are those of the body; what has been read is let go.

#![no_main]

use bytes::Bytes;
use gst_plugin_kvsgetmedia_fuzz::{
    ebml::{Error, Event, Reader, Span},
    in_chunks, sizes_and_body,
};
use libfuzzer_sys::fuzz_target;

struct Read {
    body: Bytes,
    reader: Reader,
    /// Where the next span is to begin.
    at: u64,
    events: Vec<Event>,
}

impl Read {
    fn new(body: &Bytes) -> Self {
        Read {
            body: body.clone(),
            reader: Reader::default(),
            at: 0,
            events: Vec::new(),
        }
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.reader.push(chunk);
        loop {
            match self.reader.next() {
                Ok(Some(event)) => self.event(event),
                Ok(None) => return Ok(()),
                Err(error) => {
                    assert_eq!(
                        self.reader.next(),
                        Err(error.clone()),
                        "it stays where it is"
                    );
                    assert!(error.offset >= self.at);
                    return Err(error);
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Start { header, .. } => self.span(header),
            Event::Element { span, data, .. } => {
                assert!(span.start < data.start && data.end == span.end);
                self.span(span);
                let bytes = self.reader.rope().bytes(data);
                assert_eq!(bytes, self.body[data.start as usize..data.end as usize]);
            }
            Event::End { .. } => (),
        }
        assert_eq!(self.reader.position(), self.at);
        self.events.push(event);
    }

    fn span(&mut self, span: Span) {
        assert_eq!(span.start, self.at, "spans touch");
        assert!(span.end > span.start && span.end <= self.reader.rope().end());
        let mut pieces = Vec::new();
        self.reader.rope().append_slices(span, &mut pieces);
        let range = span.start as usize..span.end as usize;
        assert_eq!(pieces.concat(), self.body[range]);
        self.at = span.end;
    }
}

fuzz_target!(|input: &[u8]| {
    let (sizes, body) = sizes_and_body(input);
    let mut whole = Read::new(&body);
    let expected = whole.push(body.clone());

    let mut read = Read::new(&body);
    let mut result = Ok(());
    let mut chunks = Vec::new();
    let mut end = 0;
    for chunk in in_chunks(&body, &sizes) {
        let before = read.at;
        end += chunk.len() as u64;
        chunks.push((end, chunk.clone()));
        result = read.push(chunk);
        chunks.retain(|(end, chunk)| {
            assert!(
                *end > before || chunk.is_unique(),
                "what was read is let go"
            );
            *end > before
        });
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, expected);
    assert_eq!(read.events, whole.events);
});
