//! Where a start selector leads.

use crate::number::Number;

use super::fragment::{Fragment, Progress};
use super::{State, Visible};

/// A start selector as a GetMedia request has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartSelector {
    /// The latest fragment, then whatever comes.
    Now,
    /// The oldest fragment kept.
    Earliest,
    /// The fragment after the one of this number.
    FragmentNumber(String),
    /// The fragment that holds this producer time (milliseconds since the epoch).
    ProducerTimestamp(u64),
    /// The fragment that holds this server time (milliseconds since the epoch).
    ServerTimestamp(u64),
    /// The fragment after the one that carried this token.
    ContinuationToken(String),
}

/// What NOW means. The service's reference has "the latest chunk"; whether that is one that is
/// complete already isn't documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NowStart {
    /// The latest fragment there is, then live.
    #[default]
    Latest,
    /// The next fragment to come.
    Next,
}

/// What NOW or EARLIEST does on a stream without fragments. Not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnEmpty {
    /// 200, and silence until there is one.
    #[default]
    Wait,
    /// 200, and a body that ends at once.
    End,
}

/// What a timestamp does that no fragment holds. Not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnTimestampGap {
    /// Starts at the next fragment, or waits for it.
    #[default]
    NextFragment,
    /// 404 ResourceNotFoundException.
    NotFound,
}

/// What a fragment number or a token does whose following fragment isn't kept any more, or which
/// the stream never had. Not documented beyond in-band error 4000's "not found".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExpired {
    /// 200, and in-band error 4000.
    #[default]
    InBandError,
    /// 400 InvalidArgumentException.
    InvalidArgument,
    /// Starts at the next fragment there is.
    NextFragment,
}

/// The answers to what isn't documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Undocumented {
    /// NOW.
    pub now: NowStart,
    /// NOW and EARLIEST on an empty stream.
    pub empty: OnEmpty,
    /// A timestamp in a gap.
    pub timestamp_gap: OnTimestampGap,
    /// A start that is gone.
    pub expired: OnExpired,
}

/// The next fragment to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// The first there is.
    First,
    /// This one, or the first after it.
    At(Number),
    /// The first after this one.
    After(Number),
    /// The first whose producer time is not before this.
    ProducerMs(u64),
    /// The first whose server time is not before this.
    ServerMs(u64),
}

/// A selector that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoStart {
    Empty,
    /// No fragment holds the timestamp.
    Gap,
    /// Number or token unknown, or what follows it is gone. The number to name in the error.
    Gone(String),
}

impl State {
    pub(crate) fn start(
        &self,
        selector: &StartSelector,
        visible: Visible,
        choice: Undocumented,
    ) -> Result<Cursor, NoStart> {
        match selector {
            StartSelector::Earliest => match self.visible(visible).next() {
                None if choice.empty == OnEmpty::End => Err(NoStart::Empty),
                _ => Ok(Cursor::First),
            },
            StartSelector::Now => match (self.visible(visible).last(), choice.now) {
                (Some(last), NowStart::Latest) => Ok(Cursor::At(last.number.clone())),
                (Some(last), NowStart::Next) => Ok(Cursor::After(last.number.clone())),
                (None, _) if choice.empty == OnEmpty::End => Err(NoStart::Empty),
                (None, _) => Ok(Cursor::First),
            },
            StartSelector::FragmentNumber(number) => {
                let known = Number::parse(number).filter(|number| self.knows(number));
                self.after(known, number, choice)
            }
            StartSelector::ContinuationToken(token) => {
                self.after(self.number_of_token(token), token, choice)
            }
            StartSelector::ProducerTimestamp(ms) => {
                self.holding(*ms, visible, choice, |f| f.producer_ms, Cursor::ProducerMs)
            }
            StartSelector::ServerTimestamp(ms) => {
                self.holding(*ms, visible, choice, |f| f.server_ms, Cursor::ServerMs)
            }
        }
    }

    fn after(
        &self,
        known: Option<Number>,
        given: &str,
        choice: Undocumented,
    ) -> Result<Cursor, NoStart> {
        if let Some(number) = &known
            && !self.gone.iter().any(|gone| gone.number > *number)
        {
            return Ok(Cursor::After(number.clone()));
        }
        match (choice.expired, known.or_else(|| Number::parse(given))) {
            (OnExpired::NextFragment, Some(number)) => Ok(Cursor::After(number)),
            (OnExpired::NextFragment, None) => Ok(Cursor::First),
            _ => Err(NoStart::Gone(given.to_owned())),
        }
    }

    /// The last fragment that starts at or before `ms` and is not over by then; of fragments with
    /// the same start the first. A fragment is over when the next one starts, or, if a gap
    /// follows, after its own duration.
    fn holding(
        &self,
        ms: u64,
        visible: Visible,
        choice: Undocumented,
        start: impl Fn(&Fragment) -> u64,
        wait: impl Fn(u64) -> Cursor,
    ) -> Result<Cursor, NoStart> {
        let mut held: Option<&Fragment> = None;
        for fragment in self.visible(visible) {
            let begins = start(fragment);
            let open = fragment.progress() == Progress::Open;
            let over = begins.saturating_add(fragment.duration_ms().max(1));
            let later = held.is_none_or(|held| start(held) < begins);
            if begins <= ms && (ms < over || open) && later {
                held = Some(fragment);
            }
        }
        match held {
            Some(held) => Ok(Cursor::At(held.number.clone())),
            None if choice.timestamp_gap == OnTimestampGap::NotFound => Err(NoStart::Gap),
            None => Ok(wait(ms)),
        }
    }
}
