//! The tags that a fragment's TAG message carries.

use glib::gstr;
use gst::tags::{CustomTag, Tag};

macro_rules! fragment_tag {
    ($(#[$doc:meta])* $type:ident: $value:ty, $name:literal, $nick:literal, $description:literal) => {
        $(#[$doc])*
        pub(crate) enum $type {}

        impl<'a> Tag<'a> for $type {
            type TagType = $value;
            const TAG_NAME: &'static glib::GStr = gstr!($name);
        }

        impl CustomTag<'_> for $type {
            const FLAG: gst::TagFlag = gst::TagFlag::Meta;
            const NICK: &'static glib::GStr = gstr!($nick);
            const DESCRIPTION: &'static glib::GStr = gstr!($description);
        }
    };
}

fragment_tag!(
    /// `kvs-fragment-number`
    FragmentNumber: &'a str,
    "kvs-fragment-number",
    "fragment number",
    "number of the Kinesis video fragment"
);
fragment_tag!(
    /// `kvs-server-timestamp`
    ServerTimestamp: gst::DateTime,
    "kvs-server-timestamp",
    "server timestamp",
    "when Kinesis Video Streams received the fragment"
);
fragment_tag!(
    /// `kvs-producer-timestamp`
    ProducerTimestamp: gst::DateTime,
    "kvs-producer-timestamp",
    "producer timestamp",
    "when the fragment was recorded, by its producer's clock"
);
fragment_tag!(
    /// `kvs-continuation-token`
    ContinuationToken: &'a str,
    "kvs-continuation-token",
    "continuation token",
    "what to ask for to get the fragments after this one"
);
fragment_tag!(
    /// `kvs-millis-behind-now`
    MillisBehindNow: u64,
    "kvs-millis-behind-now",
    "milliseconds behind now",
    "how far the fragment was behind now, in milliseconds"
);

/// Makes the tags known to GStreamer, once.
pub(crate) fn register() {
    fn once<T: for<'a> CustomTag<'a>>() {
        if !gst::tags::tag_exists(T::TAG_NAME) {
            gst::tags::register::<T>();
        }
    }
    once::<FragmentNumber>();
    once::<ServerTimestamp>();
    once::<ProducerTimestamp>();
    once::<ContinuationToken>();
    once::<MillisBehindNow>();
}
