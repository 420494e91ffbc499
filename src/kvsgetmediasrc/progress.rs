//! What a session says at once, rather than in the order of its items: to the log and the bus.

use super::{
    CAT,
    messages::{post_progress, post_reconnect},
};
use crate::{lock::lock, notice::Notice};
use std::sync::Mutex;

/// What an application hears of a session at once, and the step of opening that is under way, so that
/// it can be said how it ended.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Step>);

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Step {
    #[default]
    None,
    Begun(&'static str),
    /// Another session has taken the place of this one, which may still run until its next pause.
    Over,
}

impl Progress {
    /// The step before; [`Step::Over`] is followed by no other.
    fn replace(&self, step: Step) -> Step {
        let mut current = lock(&self.0);
        match *current {
            Step::Over => Step::Over,
            _ => std::mem::replace(&mut *current, step),
        }
    }

    /// What the application hears at once, and the log.
    pub(crate) fn hear(&self, element: &gst::Element, notice: &Notice) {
        if *lock(&self.0) == Step::Over {
            return;
        }
        match notice {
            Notice::Connected {
                endpoint,
                request_id,
            } => gst::info!(
                CAT,
                obj = element,
                "Connected to {endpoint}, request {}",
                request_id.as_deref().unwrap_or("without an id")
            ),
            Notice::Reconnect {
                error: Some(error),
                delay,
                ..
            } => gst::warning!(CAT, obj = element, "{error}; trying again in {delay:?}"),
            notice => gst::debug!(CAT, obj = element, "{notice:?}"),
        }
        self.post_notice(element, notice);
    }

    fn post_notice(&self, element: &gst::Element, notice: &Notice) {
        match notice {
            Notice::Progress {
                code,
                text,
                done: false,
            } => {
                if self.replace(Step::Begun(code)) != Step::Over {
                    post_progress(element, gst::ProgressType::Start, code, text);
                }
            }
            Notice::Progress {
                code,
                text,
                done: true,
            } => {
                if self.replace(Step::None) != Step::Over {
                    post_progress(element, gst::ProgressType::Complete, code, text);
                }
            }
            Notice::Reconnect {
                reason,
                error,
                attempt,
                delay,
                resume_after,
            } => {
                let step = *lock(&self.0);
                if let (Step::Begun(code), Some(error)) = (step, error) {
                    let text = format!("Trying again in {:.1} s: {error}", delay.as_secs_f64());
                    post_progress(element, gst::ProgressType::Continue, code, &text);
                }
                post_reconnect(element, reason, *attempt, *delay, resume_after.as_deref());
            }
            Notice::Connected { .. } => (),
        }
    }

    /// The step under way, if any, has failed.
    pub(crate) fn fail(&self, element: &gst::Element) {
        if let Step::Begun(code) = self.replace(Step::None) {
            post_progress(element, gst::ProgressType::Error, code, "Failed");
        }
    }

    /// Nobody wants the step under way any more, if there is any, nor to hear what may still come.
    pub(crate) fn cancel(&self, element: &gst::Element) {
        if let Step::Begun(code) = self.replace(Step::Over) {
            post_progress(element, gst::ProgressType::Canceled, code, "Cancelled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst::prelude::*;

    #[test]
    fn progress_ends_however_it_ends() {
        use gst::ProgressType::*;
        gst::init().unwrap();
        let pipeline = gst::Pipeline::new();
        let bus = pipeline.bus().unwrap();
        let progress = Progress::default();
        let notice = |code, done| Notice::Progress {
            code,
            text: "…".to_owned(),
            done,
        };
        progress.hear(pipeline.upcast_ref(), &notice("endpoint", false));
        progress.hear(pipeline.upcast_ref(), &notice("endpoint", true));
        progress.fail(pipeline.upcast_ref());
        progress.hear(pipeline.upcast_ref(), &notice("connect", false));
        progress.fail(pipeline.upcast_ref());
        progress.hear(pipeline.upcast_ref(), &notice("connect", false));
        progress.cancel(pipeline.upcast_ref());
        // What an old session still says.
        progress.hear(pipeline.upcast_ref(), &notice("connect", true));
        progress.hear(pipeline.upcast_ref(), &notice("endpoint", false));
        progress.hear(
            pipeline.upcast_ref(),
            &Notice::Reconnect {
                reason: "rotated",
                error: None,
                attempt: 0,
                delay: std::time::Duration::ZERO,
                resume_after: None,
            },
        );
        let seen: Vec<_> = std::iter::from_fn(|| bus.pop())
            .map(|message| match message.view() {
                gst::MessageView::Progress(message) => {
                    let (type_, code, _) = message.get();
                    (type_, code.to_string())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            (Start, "endpoint"),
            (Complete, "endpoint"),
            (Start, "connect"),
            (Error, "connect"),
            (Start, "connect"),
            (Canceled, "connect"),
        ];
        assert_eq!(seen, expected.map(|(type_, code)| (type_, code.to_owned())));
    }
}
