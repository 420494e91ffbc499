//! Faults that a test scripts.
//!
//! A fault waits for requests of one operation (and of one stream, if it names one), counting them
//! from the moment it was given to the server, and acts on the `nth` (1: the next) and as many
//! further ones as `times` says; then it is used up. Every request that arrives counts, refused
//! ones too. Several faults may act on one request: their actions add up, and of two actions of
//! one kind the later fault's counts.

use std::time::Duration;

use bytes::Bytes;

use crate::http::Cut;
use crate::log::Operation;

/// What a replaced body is followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterBody {
    /// The last chunk: a body that ends as bodies should.
    CleanEnd,
    /// Nothing, for ever; the connection stays open.
    Silence,
    /// FIN inside the chunked body.
    Fin,
    /// RST.
    Reset,
}

/// What a request is answered with in place of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Error {
        status: u16,
        code: String,
        message: String,
    },
    Xml403,
    Hang,
    Close,
    Reset,
}

/// Where a body ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Cut(Cut),
    Stall,
}

/// What happens to a request: the sum of all faults that act on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Actions {
    pub(crate) answer: Option<Answer>,
    pub(crate) delay: Option<Duration>,
    pub(crate) clock_skew_ms: i64,
    pub(crate) stop: Option<(u64, Stop)>,
    pub(crate) drip: Option<u64>,
    pub(crate) chunk_size: Option<usize>,
    pub(crate) replace: Option<(Bytes, AfterBody)>,
    pub(crate) prefix: Option<Bytes>,
    pub(crate) in_band_error: Option<(usize, u32, String)>,
    pub(crate) omit_trailing_tags_after: Option<usize>,
    pub(crate) duplicate: Vec<usize>,
    pub(crate) skip: Vec<usize>,
    pub(crate) swap: Vec<usize>,
    pub(crate) insert: Vec<(usize, Bytes)>,
    pub(crate) ack_error: Option<(usize, u32, String)>,
}

impl Actions {
    fn add(&mut self, other: &Actions) {
        fn later<T: Clone>(mine: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        later(&mut self.answer, &other.answer);
        later(&mut self.delay, &other.delay);
        self.clock_skew_ms += other.clock_skew_ms;
        later(&mut self.stop, &other.stop);
        later(&mut self.drip, &other.drip);
        later(&mut self.chunk_size, &other.chunk_size);
        later(&mut self.replace, &other.replace);
        later(&mut self.prefix, &other.prefix);
        later(&mut self.in_band_error, &other.in_band_error);
        later(
            &mut self.omit_trailing_tags_after,
            &other.omit_trailing_tags_after,
        );
        self.duplicate.extend(&other.duplicate);
        self.skip.extend(&other.skip);
        self.swap.extend(&other.swap);
        self.insert.extend(other.insert.iter().cloned());
        later(&mut self.ack_error, &other.ack_error);
    }
}

/// A fault: which requests, and what happens to them.
///
/// ```
/// use kvs_local::{Cut, Fault, Server};
///
/// let server = Server::start();
/// // The second GetMedia of "cam" breaks off after 1000 bytes of body.
/// server.fault(Fault::get_media().stream("cam").nth(2).cut_after(1000, Cut::Reset));
/// // Every body comes in HTTP chunks of 7 bytes.
/// server.fault(Fault::get_media().always().chunk_size(7));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a fault does nothing until it is given to Server::fault"]
pub struct Fault {
    operation: Operation,
    stream: Option<String>,
    nth: usize,
    times: usize,
    seen: usize,
    actions: Actions,
}

impl Fault {
    /// A fault of any operation.
    pub fn on(operation: Operation) -> Fault {
        Fault {
            operation,
            stream: None,
            nth: 1,
            times: 1,
            seen: 0,
            actions: Actions::default(),
        }
    }

    /// A fault of GetMedia.
    pub fn get_media() -> Fault {
        Fault::on(Operation::GetMedia)
    }

    /// A fault of GetDataEndpoint.
    pub fn get_data_endpoint() -> Fault {
        Fault::on(Operation::GetDataEndpoint)
    }

    /// A fault of PutMedia.
    pub fn put_media() -> Fault {
        Fault::on(Operation::PutMedia)
    }

    /// A fault of DescribeStream.
    pub fn describe_stream() -> Fault {
        Fault::on(Operation::DescribeStream)
    }

    /// Acts on the `nth` matching request from now on, 1 being the next (the default).
    pub fn nth(mut self, nth: usize) -> Fault {
        self.nth = nth.max(1);
        self
    }

    /// Acts on this many requests in a row (default 1).
    pub fn times(mut self, times: usize) -> Fault {
        self.times = times;
        self
    }

    /// Acts on every request from the `nth` on.
    pub fn always(self) -> Fault {
        self.times(usize::MAX)
    }

    /// Acts on requests for this stream alone.
    pub fn stream(mut self, name: &str) -> Fault {
        self.stream = Some(name.to_owned());
        self
    }

    /// Answers with an error as AWS writes them: `x-amzn-ErrorType` is `code`, the JSON body holds
    /// `message`. Without a code there is no such header, as in the answers of load balancers.
    pub fn http_error(self, status: u16, code: &str, message: &str) -> Fault {
        self.answer(Answer::Error {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
        })
    }

    /// Answers 403 with an XML body and no error type, as an endpoint of another service does.
    pub fn xml_403(self) -> Fault {
        self.answer(Answer::Xml403)
    }

    /// Reads the request and never answers.
    pub fn hang_before_headers(self) -> Fault {
        self.answer(Answer::Hang)
    }

    /// Reads the request and closes with FIN.
    pub fn close_before_headers(self) -> Fault {
        self.answer(Answer::Close)
    }

    /// Reads the request and closes with RST.
    pub fn reset_before_headers(self) -> Fault {
        self.answer(Answer::Reset)
    }

    fn answer(mut self, answer: Answer) -> Fault {
        self.actions.answer = Some(answer);
        self
    }

    /// Waits before the response's headers, whatever they are.
    pub fn delay_headers(mut self, delay: Duration) -> Fault {
        self.actions.delay = Some(delay);
        self
    }

    /// The server's clock is wrong by so many seconds (negative: slow) for this request: its
    /// signature is refused beyond 300 s, and the Date header shows it.
    pub fn clock_skew(mut self, seconds: i64) -> Fault {
        self.actions.clock_skew_ms = seconds * 1000;
        self
    }

    /// Sends exactly `bytes` bytes of the body, then ends it.
    pub fn cut_after(mut self, bytes: u64, cut: Cut) -> Fault {
        self.actions.stop = Some((bytes, Stop::Cut(cut)));
        self
    }

    /// Sends exactly `bytes` bytes of the body, then nothing more; the connection stays open.
    pub fn stall_after(mut self, bytes: u64) -> Fault {
        self.actions.stop = Some((bytes, Stop::Stall));
        self
    }

    /// Sends the body no faster than this.
    pub fn drip(mut self, bytes_per_second: u64) -> Fault {
        self.actions.drip = Some(bytes_per_second.max(1));
        self
    }

    /// Sends the body in HTTP chunks of `bytes` bytes, each one write to the socket.
    pub fn chunk_size(mut self, bytes: usize) -> Fault {
        self.actions.chunk_size = Some(bytes.max(1));
        self
    }

    /// After so many fragments sends Tags with ERROR_CODE and ERROR_ID beside FRAGMENT_NUMBER, in
    /// a document without Cluster, and ends the body.
    pub fn in_band_error(mut self, after_fragments: usize, id: u32, code_text: &str) -> Fault {
        self.actions.in_band_error = Some((after_fragments, id, code_text.to_owned()));
        self
    }

    /// PutMedia: when so many fragments of the request are complete and the next has begun, refuses
    /// that with an ERROR acknowledgement, and ends the answer. The service does so with 4003
    /// MAX_CONNECTION_DURATION_REACHED or 5000 INTERNAL_ERROR.
    pub fn ack_error(mut self, after_fragments: usize, id: u32, code: &str) -> Fault {
        self.actions.ack_error = Some((after_fragments, id, code.to_owned()));
        self
    }

    /// Sends these bytes in place of the body.
    pub fn replace_body(mut self, body: impl Into<Bytes>, then: AfterBody) -> Fault {
        self.actions.replace = Some((body.into(), then));
        self
    }

    /// Sends these bytes before the body.
    pub fn prefix_body(mut self, prefix: impl Into<Bytes>) -> Fault {
        self.actions.prefix = Some(prefix.into());
        self
    }

    /// Sends these bytes after so many fragments of this response.
    pub fn insert_after(mut self, fragments: usize, bytes: impl Into<Bytes>) -> Fault {
        self.actions.insert.push((fragments, bytes.into()));
        self
    }

    /// Leaves out MILLIS_BEHIND_NOW and CONTINUATION_TOKEN of every fragment after the first
    /// `fragments` of this response.
    pub fn omit_trailing_tags(mut self, fragments: usize) -> Fault {
        self.actions.omit_trailing_tags_after = Some(fragments);
        self
    }

    /// Sends the `nth` fragment of this response (from 1) twice.
    pub fn duplicate_fragment(mut self, nth: usize) -> Fault {
        self.actions.duplicate.push(nth);
        self
    }

    /// Leaves out the `nth` fragment of this response (from 1).
    pub fn skip_fragment(mut self, nth: usize) -> Fault {
        self.actions.skip.push(nth);
        self
    }

    /// Sends the `nth` fragment of this response (from 1) after the one that follows it.
    pub fn swap_fragment(mut self, nth: usize) -> Fault {
        self.actions.swap.push(nth);
        self
    }
}

/// The faults a server has been given.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Counts a request; what shall happen to it.
    pub(crate) fn take(&mut self, operation: Operation, stream: Option<&str>) -> Actions {
        let mut actions = Actions::default();
        self.0.retain_mut(|fault| {
            let named = fault.stream.as_deref();
            if fault.operation != operation || (named.is_some() && named != stream) {
                return true;
            }
            fault.seen += 1;
            let last = (fault.nth - 1).saturating_add(fault.times);
            if fault.seen >= fault.nth && fault.seen <= last {
                actions.add(&fault.actions);
            }
            fault.seen < last
        });
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nth_times_and_stream() {
        let mut faults = Faults::default();
        faults.add(Fault::get_media().stream("a").nth(2).times(2).chunk_size(3));
        faults.add(Fault::get_media().always().drip(9));
        let mut take = |stream| {
            let actions = faults.take(Operation::GetMedia, Some(stream));
            (actions.chunk_size, actions.drip)
        };
        assert_eq!(take("a"), (None, Some(9)));
        assert_eq!(take("b"), (None, Some(9)));
        assert_eq!(take("a"), (Some(3), Some(9)));
        assert_eq!(take("a"), (Some(3), Some(9)));
        assert_eq!(take("a"), (None, Some(9)));
        assert_eq!(faults.len(), 1);
    }
}
