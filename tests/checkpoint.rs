//! Going on where the last process stopped: the file, the element that writes it, and a process that
//! is killed again and again.

mod support;

use gst::prelude::*;
use gstkvsgetmedia::{
    checkpoint::{
        Checkpoint, Config,
        document::{Document, Stream},
    },
    error::{Error, ErrorKind},
    resume::Point,
};
use kvs_local::{
    Fault, OnExpired, OnTimestampGap, Server, StartSelector, StreamHandle, Undocumented,
    synth::{Synth, SynthFragment, Synthetic, TrackSpec},
};
use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use support::*;

const HOUR: Duration = Duration::from_secs(3600);

/// What `child` is to do, in the process of its own that a test starts.
const CHILD: &str = "KVS_CHECKPOINT_CHILD";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvs-checkpoint-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder.canonicalize().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for something that another thread or process does.
#[track_caller]
fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// ---- the file ---------------------------------------------------------------------------------

fn stream(name: &str, region: Option<&str>) -> Stream {
    Stream {
        name: Some(name.to_owned()),
        arn: None,
        region: region.map(str::to_owned),
    }
}

fn config(path: &Path, interval: Duration) -> Config {
    Config {
        path: path.to_owned(),
        interval,
        stream: stream("cam", None),
    }
}

fn point(number: u64) -> Point {
    Point {
        number: number.to_string(),
        token: Some(format!("token-{number}")),
        server_timestamp: None,
        producer_timestamp: None,
    }
}

/// Opens a checkpoint, and sends what it reports of each write.
fn open(config: Config) -> Result<(Checkpoint, mpsc::Receiver<Result<String, Error>>), Error> {
    let (sender, reports) = mpsc::channel();
    let report = move |written: Result<&Point, Error>| {
        let _ = sender.send(written.map(|point| point.number.clone()));
    };
    Ok((Checkpoint::open(config, Box::new(report))?, reports))
}

fn opened(config: Config) -> (Checkpoint, mpsc::Receiver<Result<String, Error>>) {
    open(config).unwrap()
}

#[track_caller]
fn refused(config: Config) -> Error {
    open(config).map(|_| ()).unwrap_err()
}

/// The fragment number in a file, once there is one.
fn written(path: &Path) -> Option<String> {
    let contents = fs::read(path).ok()?;
    let document = Document::parse(&contents);
    Some(document.unwrap_or_else(|why| panic!("{why}")).point.number)
}

const GOLDEN: &str = r#"{
  "version": 1,
  "stream": {
    "name": "cam",
    "arn": "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/cam/1511852108000",
    "region": "eu-west-1"
  },
  "fragment-number": "91343852333181432392682062607743920146264094308",
  "continuation-token": "91343852333181432392682062607743920146264094309",
  "server-timestamp": "2017-11-28T06:55:09.126Z",
  "producer-timestamp": "2017-11-28T06:55:08Z"
}
"#;

#[test]
fn the_format_is_what_it_was() {
    let document = Document {
        stream: Stream {
            name: Some("cam".to_owned()),
            arn: Some(
                "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/cam/1511852108000".to_owned(),
            ),
            region: Some("eu-west-1".to_owned()),
        },
        point: Point {
            number: "91343852333181432392682062607743920146264094308".to_owned(),
            token: Some("91343852333181432392682062607743920146264094309".to_owned()),
            server_timestamp: Some(1_511_852_109_126_000_000),
            producer_timestamp: Some(1_511_852_108_000_000_000),
        },
    };
    assert_eq!(document.print(), GOLDEN);
    assert_eq!(Document::parse(GOLDEN.as_bytes()), Ok(document));

    let least = r#"{"stream":{"name":"cam"},"version":1,"continuation-token":"x","later":[1]}"#;
    let least = Document::parse(least.as_bytes()).unwrap();
    assert_eq!(least.point.token.as_deref(), Some("x"));
    assert_eq!(Document::parse(least.print().as_bytes()), Ok(least));
}

#[test]
fn what_is_damaged_is_told() {
    for cut in 0..GOLDEN.trim_end().len() {
        assert!(Document::parse(&GOLDEN.as_bytes()[..cut]).is_err(), "{cut}");
    }
    for (from, to, why) in [
        ("\"version\": 1", "\"version\": 2", "version is 2"),
        ("\"name\": \"cam\",", "", "does not name its stream"),
        ("\"9134", "\"x9134", "fragment-number"),
        ("309\"", "309/\"", "continuation-token"),
        ("T06:55:09.126Z", "", "server-timestamp"),
        (
            "\"2017-11-28T06:55:08Z\"",
            "\"1066-11-28T06:55:08Z\"",
            "producer-timestamp",
        ),
        ("\"2017-11-28T06:55:08Z\"", "7", "line 11"),
    ] {
        assert!(GOLDEN.contains(from), "{from}");
        let error = Document::parse(GOLDEN.replace(from, to).as_bytes()).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let neither = r#"{"stream":{"name":"cam"},"version":1}"#;
    let error = Document::parse(neither.as_bytes()).unwrap_err();
    assert!(error.contains("neither"), "{error}");
}

#[test]
fn the_last_point_is_there_again() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let (checkpoint, _) = opened(config(&path, HOUR));
    assert_eq!((checkpoint.found(), checkpoint.point()), (None, None));
    assert!(!path.exists(), "nothing was delivered");
    checkpoint.record(point(1));
    checkpoint.record(point(2));
    assert!(checkpoint.close(Instant::now() + PATIENCE));

    // What a crash left behind is in nobody's way.
    fs::write(folder.file("cam.json.tmp"), "half").unwrap();
    let (checkpoint, _) = opened(config(&path, HOUR));
    assert_eq!(checkpoint.found(), Some(&point(2)));
    assert_eq!(checkpoint.point(), Some(point(2)));
    assert!(checkpoint.close(Instant::now() + PATIENCE));
    let mut left: Vec<_> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["cam.json", "cam.json.lock"]);
}

#[test]
fn it_is_written_once_an_interval_and_at_once_on_demand() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let (checkpoint, reports) = opened(config(&path, HOUR));
    let next = || reports.recv_timeout(PATIENCE).unwrap().unwrap();
    checkpoint.record(point(1));
    assert_eq!(next(), "1");
    for number in 2..=5 {
        checkpoint.record(point(number));
    }
    checkpoint.flush();
    // The latest alone, in a single write.
    assert_eq!(next(), "5");
    checkpoint.record(point(6));
    assert!(reports.recv_timeout(Duration::from_millis(300)).is_err());
    assert_eq!(written(&path).as_deref(), Some("5"));
    // What a flush found written already does not count for what comes after.
    assert!(checkpoint.close(Instant::now() + PATIENCE));
    assert_eq!(next(), "6");

    let (checkpoint, reports) = opened(config(&path, HOUR));
    checkpoint.flush();
    checkpoint.record(point(7));
    assert_eq!(reports.recv_timeout(PATIENCE).unwrap().unwrap(), "7");
    checkpoint.record(point(8));
    assert!(reports.recv_timeout(Duration::from_millis(300)).is_err());
    drop(checkpoint);
    assert_eq!(reports.recv_timeout(PATIENCE).unwrap().unwrap(), "8");
    // The writer is gone, and the lock with it.
    assert!(reports.recv().is_err());

    let (checkpoint, reports) = opened(config(&path, Duration::ZERO));
    for number in 10..20 {
        checkpoint.record(point(number));
        let next = reports.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(next, number.to_string());
        assert_eq!(written(&path), Some(number.to_string()));
    }
}

#[test]
fn a_file_has_one_user() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let (first, _) = opened(config(&path, HOUR));
    symlink(&path, folder.file("other.json")).unwrap();
    fs::create_dir(folder.file("folder")).unwrap();
    first.record(point(1));
    first.flush();
    wait("the file", || path.exists());
    for other in ["cam.json", "folder/../cam.json", "other.json"] {
        let error = refused(config(&folder.file(other), HOUR));
        assert_eq!(error.kind, ErrorKind::Busy, "{other}: {error}");
        assert!(error.message.contains("cam.json is in use"), "{error}");
    }
    assert!(first.close(Instant::now() + PATIENCE));
    let (second, _) = opened(config(&folder.file("other.json"), HOUR));
    second.record(point(2));
    assert!(second.close(Instant::now() + PATIENCE));
    assert_eq!(
        written(&path).as_deref(),
        Some("2"),
        "the link stays a link"
    );
}

#[test]
fn a_link_to_what_is_not_there_yet_stays_a_link() {
    let folder = Folder::new();
    fs::create_dir(folder.file("disk")).unwrap();
    let target = folder.file("disk/cam.json");
    let (near, far) = (folder.file("near.json"), folder.file("far.json"));
    symlink("disk/cam.json", &near).unwrap();
    symlink(&near, &far).unwrap();
    for (first, others) in [
        (&target, [&near, &far]),
        (&near, [&target, &far]),
        (&far, [&near, &target]),
    ] {
        let (checkpoint, _) = opened(config(first, HOUR));
        assert_eq!(checkpoint.path(), target);
        for other in others {
            let error = refused(config(other, HOUR));
            assert_eq!(error.kind, ErrorKind::Busy, "{other:?}: {error}");
        }
        checkpoint.record(point(1));
        assert!(checkpoint.close(Instant::now() + PATIENCE));
        assert!(near.is_symlink() && far.is_symlink());
        assert_eq!(written(&target).as_deref(), Some("1"), "{first:?}");
        fs::remove_file(&target).unwrap();
    }

    fs::remove_dir_all(folder.file("disk")).unwrap();
    let error = refused(config(&far, HOUR));
    assert_eq!(error.kind, ErrorKind::Storage, "{error}");
    let said = ["disk/cam.json", "make its folder"];
    assert!(said.iter().all(|s| error.message.contains(s)), "{error}");
    symlink("round.json", folder.file("round.json")).unwrap();
    let error = refused(config(&folder.file("round.json"), HOUR));
    assert_eq!(error.kind, ErrorKind::Storage, "{error}");
}

#[test]
fn a_link_in_the_place_of_its_lock_is_not_followed() {
    let folder = Folder::new();
    let (path, other) = (folder.file("cam.json"), folder.file("other"));
    symlink(&other, folder.file("cam.json.lock")).unwrap();
    let error = refused(config(&path, HOUR));
    assert_eq!(error.kind, ErrorKind::Storage, "{error}");
    assert!(error.message.contains("cam.json.lock"), "{error}");
    assert!(!other.exists());
}

#[test]
fn what_cannot_be_used_is_told_with_the_mend() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let text = |contents: &str| {
        fs::write(&path, contents).unwrap();
        let error = refused(config(&path, HOUR));
        assert_eq!(error.kind, ErrorKind::Settings, "{error}");
        assert!(error.message.contains("cam.json is"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), contents, "untouched");
        error.message
    };
    for damaged in ["", "{", "[]", &GOLDEN[..100], &" ".repeat(100_000)] {
        let error = text(damaged);
        assert!(
            error.contains("damaged") && error.contains("delete it"),
            "{error}"
        );
    }
    let error = text(&GOLDEN.replace(r#""cam""#, r#""door""#));
    assert!(error.contains("of stream arn:aws:kinesisvideo"), "{error}");
    assert!(error.contains("name another file"), "{error}");

    for (path, kind, what) in [
        (
            folder.file("no/cam.json"),
            ErrorKind::Storage,
            "make its folder",
        ),
        (
            folder.file("cam.json/x"),
            ErrorKind::Storage,
            "make its folder",
        ),
        (folder.0.clone(), ErrorKind::Settings, "no regular file"),
        (
            "/sys/cam.json".into(),
            ErrorKind::Storage,
            "the right to write",
        ),
    ] {
        let error = refused(config(&path, HOUR));
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(what), "{error}");
        let named = path
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        assert!(error.message.contains(named), "{error}");
    }
}

#[test]
fn a_stream_is_known_by_all_that_is_known_of_it() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let (checkpoint, _) = opened(config(&path, HOUR));
    checkpoint.handle().confirm_region("eu-west-1").unwrap();
    checkpoint.record(point(1));
    assert!(checkpoint.close(Instant::now() + PATIENCE));
    // Known before the service is asked, or found out only then.
    let elsewhere = Config {
        stream: stream("cam", Some("us-east-1")),
        ..config(&path, HOUR)
    };
    let error = refused(elsewhere);
    assert_eq!(error.kind, ErrorKind::Settings);
    assert!(error.message.contains("stream cam in eu-west-1"), "{error}");
    let (checkpoint, _) = opened(config(&path, HOUR));
    let error = checkpoint.handle().confirm_region("us-east-1").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Settings);
    assert!(error.message.contains("us-east-1"), "{error}");
    checkpoint.handle().confirm_region("eu-west-1").unwrap();
}

#[test]
fn a_write_that_fails_is_told_once_and_tried_again() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let (checkpoint, reports) = opened(config(&path, Duration::ZERO));
    let next = || reports.recv_timeout(PATIENCE).unwrap();
    checkpoint.record(point(1));
    assert_eq!(next(), Ok("1".to_owned()));
    let obstacle = folder.file("cam.json.tmp");
    fs::create_dir_all(obstacle.join("full")).unwrap();
    checkpoint.record(point(2));
    let error = next().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Storage);
    assert!(
        error.message.contains("cam.json cannot be written"),
        "{error}"
    );
    checkpoint.record(point(3));
    fs::remove_dir_all(&obstacle).unwrap();
    assert_eq!(next(), Ok("3".to_owned()));
    fs::create_dir_all(obstacle.join("full")).unwrap();
    checkpoint.record(point(4));
    next().unwrap_err();
    // At the end once more, since that is what stays.
    assert!(checkpoint.close(Instant::now() + PATIENCE));
    next().unwrap_err();
    assert_eq!(written(&path).as_deref(), Some("3"));
}

#[test]
fn a_slow_disk_keeps_nobody_waiting() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let (go_on, stopped) = mpsc::channel::<()>();
    let (sender, begun) = mpsc::channel();
    // The writer is kept as a disk would keep it.
    let report = move |_: Result<&Point, Error>| {
        let _ = sender.send(());
        let _ = stopped.recv();
    };
    let checkpoint = Checkpoint::open(config(&path, Duration::ZERO), Box::new(report)).unwrap();
    checkpoint.record(point(1));
    begun.recv_timeout(PATIENCE).unwrap();
    checkpoint.record(point(2));
    assert_eq!(checkpoint.point(), Some(point(2)));
    assert!(!checkpoint.close(Instant::now() + Duration::from_millis(50)));
    // Until it is done, no other process may write there.
    let lock = || fs::File::open(folder.file("cam.json.lock")).unwrap();
    lock().try_lock().unwrap_err();
    // In this one the next takes over at once.
    let (next, reports) = opened(config(&path, HOUR));
    assert_eq!(next.found(), Some(&point(2)));
    assert_eq!(refused(config(&path, HOUR)).kind, ErrorKind::Busy);
    assert!(!next.close(Instant::now()));
    let other = Config {
        stream: stream("door", None),
        ..config(&path, HOUR)
    };
    let error = refused(other);
    assert_eq!(error.kind, ErrorKind::Settings);
    assert!(
        error.message.contains("cam.json is of stream cam"),
        "{error}"
    );
    let (last, more) = opened(config(&path, HOUR));
    assert_eq!(last.found(), Some(&point(2)));
    last.record(point(3));
    assert_eq!(written(&path).as_deref(), Some("1"));
    drop(go_on);
    assert_eq!(more.recv_timeout(PATIENCE).unwrap().as_deref(), Ok("3"));
    assert_eq!(written(&path).as_deref(), Some("3"));
    // There was nothing to write for the one between.
    assert!(reports.recv().is_err());
    assert!(last.close(Instant::now() + PATIENCE));
    lock().try_lock().unwrap();
}

#[test]
fn who_opens_a_file_that_is_just_given_free_is_not_refused() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    for number in 1..300 {
        let (checkpoint, _) = opened(config(&path, HOUR));
        let before = (number > 1).then(|| point(number - 1));
        assert_eq!(checkpoint.found(), before.as_ref());
        checkpoint.record(point(number));
        drop(checkpoint);
        // Now and then when the writer has ended, now and then while it does.
        std::thread::sleep(Duration::from_micros(number % 100 * 20));
    }
}

#[test]
fn what_could_not_be_written_at_the_end_is_written_by_who_takes_over() {
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let (go_on, stopped) = mpsc::channel::<()>();
    let (sender, begun) = mpsc::channel();
    let report = move |written: Result<&Point, Error>| {
        let _ = sender.send(written.map(|_| ()));
        let _ = stopped.recv();
    };
    let checkpoint = Checkpoint::open(config(&path, Duration::ZERO), Box::new(report)).unwrap();
    checkpoint.record(point(1));
    begun.recv_timeout(PATIENCE).unwrap().unwrap();
    checkpoint.record(point(2));
    assert!(!checkpoint.close(Instant::now()));
    let obstacle = folder.file("cam.json.tmp");
    fs::create_dir_all(obstacle.join("full")).unwrap();
    let (next, reports) = opened(config(&path, Duration::ZERO));
    go_on.send(()).unwrap();
    begun.recv_timeout(PATIENCE).unwrap().unwrap_err();
    fs::remove_dir_all(&obstacle).unwrap();
    drop(go_on);
    assert!(next.close(Instant::now() + PATIENCE));
    assert_eq!(reports.recv().unwrap().as_deref(), Ok("2"));
    assert_eq!(written(&path).as_deref(), Some("2"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_cannot_be_listed_will_do() {
    use std::os::unix::fs::{PermissionsExt, chown};
    const NOBODY: u32 = 65534;
    let folder = Folder::new();
    let path = folder.file("cam.json");
    // The name of this thread and those that it starts, for files alone. Root may do anything; who is
    // another already may not change it, and owns the folder.
    let as_nobody = || {
        unsafe { libc::setfsuid(NOBODY) };
        if fs::read_dir(&folder.0).is_ok() {
            return println!("skipped: root may do anything");
        }
        let (checkpoint, reports) = opened(config(&path, Duration::ZERO));
        for number in ["1", "2"] {
            checkpoint.record(point(number.parse().unwrap()));
            let report = reports.recv_timeout(PATIENCE).unwrap();
            assert_eq!(report, Ok(number.to_owned()));
        }
        assert!(checkpoint.close(Instant::now() + PATIENCE));
        assert_eq!(written(&path).as_deref(), Some("2"));
    };
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o300)).unwrap();
    let _ = chown(&folder.0, Some(NOBODY), None);
    std::thread::scope(|scope| scope.spawn(as_nobody).join()).unwrap();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
}

/// In a file system of its own, which is small and can be made read-only.
#[test]
fn a_full_disk_and_a_read_only_one_are_told() {
    let folder = Folder::new();
    let mounted = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=64k tmpfs \"$1\" && exec \"$2\" --exact child --nocapture")
        .args(["sh".as_ref(), folder.0.as_os_str()])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, format!("disk {}", folder.0.display()))
        .output();
    let output = match mounted {
        Ok(output) => output,
        Err(error) => return println!("skipped: no unshare: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains("running 1 test") {
        let why = String::from_utf8_lossy(&output.stderr);
        return println!("skipped: no file system can be mounted: {why}");
    }
    assert!(
        output.status.success() && text.contains("disk done"),
        "{text}"
    );
}

fn disk(folder: &Path) {
    let path = folder.join("cam.json");
    let (checkpoint, reports) = opened(config(&path, Duration::ZERO));
    checkpoint.record(point(1));
    assert_eq!(reports.recv_timeout(PATIENCE).unwrap(), Ok("1".to_owned()));
    let mut filler = fs::File::create(folder.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    checkpoint.record(point(2));
    let error = reports.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(
        error.message.contains("cam.json cannot be written"),
        "{error}"
    );
    assert!(error.message.contains("make room"), "{error}");
    assert!(checkpoint.close(Instant::now() + PATIENCE));
    assert_eq!(written(&path).as_deref(), Some("1"), "the old one stays");
    assert_eq!(refused(config(&path, HOUR)).kind, ErrorKind::NoSpace);

    filler.set_len(0).unwrap();
    drop(filler);
    let status = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(folder)
        .status();
    assert!(status.unwrap().success());
    let error = refused(config(&path, HOUR));
    assert_eq!(error.kind, ErrorKind::Storage, "{error}");
    assert!(error.message.contains("the right to write"), "{error}");
    println!("disk done");
}

// ---- the element ------------------------------------------------------------------------------

/// Fragments of one video track, of which the last one only ends the stream.
fn pictures(fragments: usize) -> Synthetic {
    Synth::new()
        .fragments(fragments)
        .frames(5)
        .distinct_tokens()
        .build()
}

fn served(media: &Synthetic) -> Server {
    let server = Server::builder().enforce_rate(false).start();
    media.push_to(&server.stream("cam"));
    server
}

/// Plays up to the fragment of this index.
fn until(
    server: &Server,
    media: &Synthetic,
    end: usize,
    path: &Path,
    properties: &[(&str, &str)],
) -> gst::Element {
    let end = seconds(media.fragments[end].producer_timestamp_ms);
    let src = source(server, "cam", &[("start-selector", "earliest")]);
    set(&src, &[("end-timestamp", &end)]);
    set(&src, &[("checkpoint-location", path.to_str().unwrap())]);
    set(&src, properties);
    src
}

fn numbers(fragments: &[SynthFragment]) -> Vec<String> {
    fragments.iter().map(|f| f.number.clone()).collect()
}

#[track_caller]
fn assert_frames(log: &Log, fragments: &[SynthFragment], what: &str) {
    let frames = fragments.iter().flat_map(|f| &f.frames);
    assert_payloads(log, VIDEO, frames.map(|f| &f.payload), what);
}

/// The start selectors of all requests for media.
fn selectors(server: &Server) -> Vec<StartSelector> {
    let requests = get_media(server).into_iter();
    requests.filter_map(|request| request.selector).collect()
}

#[test]
fn it_goes_on_where_it_stopped_and_says_so() {
    let media = pictures(8);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let location = format!("file://{}", path.display());
    let location = [("checkpoint-location", location.as_str())];
    let run = Run::demuxed(&until(&server, &media, 3, &path, &location));
    run.play().wait_eos();
    // At the end of the stream it is written, whatever the interval.
    wait("the file", || {
        written(&path).as_ref() == Some(&media.fragments[2].number)
    });
    let log = run.stop();
    assert_frames(&log, &media.fragments[..3], "first");
    assert!(log.structures("kvs-checkpoint").is_empty());

    // The same element again, and another one.
    let end = seconds(media.fragments[5].producer_timestamp_ms);
    run.src.set_property("end-timestamp", &end);
    run.clear();
    run.play().wait_eos();
    let log = run.stop();
    assert_frames(&log, &media.fragments[3..5], "second");
    let told = log.structures("kvs-checkpoint");
    assert_eq!(told.len(), 1);
    let third = &media.fragments[2];
    assert_eq!(told[0].get("location"), Ok(path.to_str().unwrap()));
    assert_eq!(told[0].get("stream-name"), Ok("cam"));
    assert_eq!(told[0].get("fragment-number"), Ok(&*third.number));
    assert_eq!(told[0].get("continuation-token"), Ok(&*third.token));
    let nanos = |ms: u64| Ok(ms * 1_000_000);
    assert_eq!(
        told[0].get("server-timestamp"),
        nanos(third.server_timestamp_ms)
    );
    assert_eq!(
        told[0].get("producer-timestamp"),
        nanos(third.producer_timestamp_ms)
    );

    let run = Run::demuxed(&until(
        &server,
        &media,
        7,
        &path,
        &[("start-selector", "now")],
    ));
    run.play().wait_eos();
    assert_frames(&run.stop(), &media.fragments[5..7], "third");
    let token =
        |index: usize| StartSelector::ContinuationToken(media.fragments[index].token.clone());
    assert_eq!(
        selectors(&server),
        [StartSelector::Earliest, token(2), token(4)]
    );
    let contents = Document::parse(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(contents.stream, stream("cam", Some(server.region())));

    // There is nothing left.
    let run = Run::demuxed(&until(&server, &media, 7, &path, &[]));
    let (error, _) = run.play().wait_error();
    assert!(error.matches(gst::ResourceError::NotFound), "{error}");
    assert!(error.to_string().contains("the checkpoint"), "{error}");
    assert!(
        error.to_string().contains(&media.fragments[6].number),
        "{error}"
    );
}

#[test]
fn raw_bytes_go_on_as_well() {
    let media = pictures(5);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    for part in [0..2, 2..4] {
        let raw = [("payload", "raw")];
        let run = Run::plain(&until(&server, &media, part.end, &path, &raw));
        run.play().wait_eos();
        let served = media.fragments[part.clone()].iter();
        let served: Vec<_> = served.map(|f| f.document.clone()).collect();
        assert_eq!(run.stop().bytes, served.concat(), "{part:?}");
    }
}

/// A sink that keeps a thread in the middle of a fragment.
struct Blocked {
    pipeline: gst::Pipeline,
    src: gst::Element,
    /// A buffer of this index has come.
    reached: mpsc::Receiver<()>,
    /// What is returned for it.
    answer: mpsc::Sender<Result<gst::FlowSuccess, gst::FlowError>>,
}

/// Takes `frames` frames from a demuxer, and then waits to be told what to return for the next.
fn blocked(src: &gst::Element, frames: u32) -> Blocked {
    let pipeline = gst::Pipeline::new();
    let demuxer = gst::ElementFactory::make("matroskademux").build().unwrap();
    pipeline.add_many([src, &demuxer]).unwrap();
    src.link(&demuxer).unwrap();
    let (send_reached, reached) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<Result<gst::FlowSuccess, gst::FlowError>>();
    let answers = Arc::new(std::sync::Mutex::new(answers));
    let taken = Arc::new(AtomicU32::new(0));
    let weak = pipeline.downgrade();
    demuxer.connect_pad_added(move |_, pad| {
        let pipeline = weak.upgrade().unwrap();
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .build()
            .unwrap();
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        let (taken, answers) = (taken.clone(), answers.clone());
        let reached = send_reached.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if taken.fetch_add(1, Ordering::SeqCst) == frames {
                reached.send(()).unwrap();
                let answer = answers.lock().unwrap().recv().unwrap();
                info.flow_res = answer;
                return match info.flow_res {
                    Ok(_) => gst::PadProbeReturn::Ok,
                    Err(_) => {
                        info.data = None;
                        gst::PadProbeReturn::Handled
                    }
                };
            }
            gst::PadProbeReturn::Ok
        })
        .unwrap();
    });
    Blocked {
        pipeline,
        src: src.clone(),
        reached,
        answer,
    }
}

#[test]
fn what_downstream_has_not_taken_is_not_passed() {
    let media = pictures(6);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let number = |index: usize| Some(media.fragments[index].number.clone());
    // In the middle of the third fragment, in its last frame, in the first of the fourth.
    for (frames, last) in [(12, 1), (14, 1), (15, 2)] {
        let _ = fs::remove_file(&path);
        let src = until(&server, &media, 5, &path, &[("checkpoint-interval", "0")]);
        let blocked = blocked(&src, frames);
        blocked.pipeline.set_state(gst::State::Playing).unwrap();
        blocked.reached.recv_timeout(PATIENCE).unwrap();
        // All that comes after has long been queued.
        wait("the rest", || {
            let stats: gst::Structure = blocked.src.property("stats");
            let requests = get_media(&server);
            let sent = requests.last().unwrap().bytes_sent;
            requests.last().unwrap().finished || stats.get::<u64>("bytes-received").unwrap() == sent
        });
        wait("the point before", || written(&path) == number(last));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(written(&path), number(last), "after {frames} frames");
        blocked.answer.send(Err(gst::FlowError::Error)).unwrap();
        let bus = blocked.pipeline.bus().unwrap();
        let error =
            bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Error]);
        assert!(error.is_some());
        blocked.pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(
            written(&path),
            number(last),
            "refused after {frames} frames"
        );

        let run = Run::demuxed(&until(&server, &media, 5, &path, &[]));
        run.play().wait_eos();
        assert_frames(&run.stop(), &media.fragments[last + 1..5], "the rest");
    }
}

#[test]
fn a_stop_writes_the_last_point() {
    let media = pictures(4);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let hour = [("checkpoint-interval", "3600000")];
    let run = Run::demuxed(&until(&server, &media, 3, &path, &hour));
    set(&run.src, &[("end-timestamp", "")]);
    run.play().wait("all", |log| log.fragments().len() == 4);
    run.stop();
    assert_eq!(written(&path), Some(media.fragments[3].number.clone()));
}

#[test]
fn after_a_seek_it_follows_what_is_delivered() {
    let media = pictures(6);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let zero = [("checkpoint-interval", "0")];
    let run = Run::demuxed(&until(&server, &media, 5, &path, &zero));
    set(&run.src, &[("end-timestamp", "")]);
    let number = |index: usize| Some(media.fragments[index].number.clone());
    run.play();
    run.wait("all", |log| log.fragments().len() == 6);
    wait("the last point", || written(&path) == number(5));
    // Back, and to an end.
    let time = |index: usize| {
        let ms = media.fragments[index].producer_timestamp_ms;
        gst::ClockTime::from_mseconds(ms)
    };
    let seek = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT,
        gst::SeekType::Set,
        time(1),
        gst::SeekType::Set,
        time(3),
    );
    assert!(run.src.send_event(seek));
    run.wait_eos();
    wait("the point sought", || written(&path) == number(2));
    run.stop();

    let run = Run::demuxed(&until(&server, &media, 5, &path, &[]));
    run.play().wait_eos();
    assert_frames(&run.stop(), &media.fragments[3..5], "from there");
}

#[test]
fn what_is_no_longer_kept_is_a_gap() {
    let media = pictures(8);
    let expired = [OnExpired::InBandError, OnExpired::InvalidArgument];
    let timestamp_gap = [OnTimestampGap::NextFragment, OnTimestampGap::NotFound];
    for index in 0..4 {
        let choice = Undocumented {
            expired: expired[index % 2],
            timestamp_gap: timestamp_gap[index / 2],
            ..Undocumented::default()
        };
        let server = Server::builder()
            .enforce_rate(false)
            .undocumented(choice)
            .start();
        let stream = server.stream("cam");
        media.push_to(&stream);
        let folder = Folder::new();
        let path = folder.file("cam.json");
        let run = Run::demuxed(&until(&server, &media, 2, &path, &[]));
        run.play().wait_eos();
        run.stop();
        stream.expire_before(&media.fragments[4].number);
        let run = Run::demuxed(&until(&server, &media, 7, &path, &[]));
        run.play().wait_eos();
        let log = run.stop();
        assert_frames(&log, &media.fragments[4..7], "the rest");
        let gaps = log.structures("kvs-gap");
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(gaps[0].get("kind"), Ok("lost"));
        let number = |index: usize| Ok(&*media.fragments[index].number);
        assert_eq!(gaps[0].get("from-fragment-number"), number(1));
        assert_eq!(gaps[0].get("to-fragment-number"), number(4));
    }
}

#[test]
fn a_token_that_is_no_longer_good_loses_nothing() {
    let media = pictures(6);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let run = Run::demuxed(&until(&server, &media, 2, &path, &[]));
    run.play().wait_eos();
    run.stop();
    server.fault(Fault::get_media().in_band_error(0, 4000, "FRAGMENT_NOT_FOUND"));
    let run = Run::demuxed(&until(&server, &media, 5, &path, &[]));
    run.play().wait_eos();
    let log = run.stop();
    assert_eq!(server.pending_faults(), 0);
    assert_frames(&log, &media.fragments[2..5], "the rest");
    assert_eq!(log.fragments(), numbers(&media.fragments[2..5]));
    assert!(log.structures("kvs-gap").is_empty(), "nothing is missing");
}

/// The error of an element that is started.
fn start_error(src: &gst::Element) -> (gst::glib::Error, gst::Structure) {
    let run = Run::plain(src);
    let _ = run.pipeline.set_state(gst::State::Playing);
    run.wait_error()
}

#[test]
fn errors_come_before_the_service_is_asked() {
    let media = pictures(3);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let run = Run::plain(&until(&server, &media, 2, &path, &[]));
    run.play().wait_eos();
    let try_again =
        |properties: &[(&str, &str)]| start_error(&until(&server, &media, 2, &path, properties)).0;
    server.clear_requests();

    let error = try_again(&[]);
    assert!(error.matches(gst::ResourceError::Busy), "{error}");
    assert!(error.to_string().contains("in use by another"), "{error}");
    run.stop();

    let error = try_again(&[("stream-name", "door")]);
    assert!(error.matches(gst::ResourceError::Settings), "{error}");
    let said = error.to_string();
    let whose = format!("of stream cam in {}", server.region());
    assert!(said.contains(&whose), "{said}");
    let error = try_again(&[("aws-region", "sa-east-1")]);
    assert!(error.matches(gst::ResourceError::Settings), "{error}");
    let nowhere = folder.file("no/cam.json");
    let error = try_again(&[("checkpoint-location", nowhere.to_str().unwrap())]);
    assert!(error.matches(gst::ResourceError::OpenReadWrite), "{error}");
    let error = try_again(&[("checkpoint-location", "s3://bucket/cam.json")]);
    assert!(error.matches(gst::ResourceError::Settings), "{error}");
    fs::write(&path, "{").unwrap();
    let error = try_again(&[]);
    assert!(error.matches(gst::ResourceError::Settings), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(server.requests().is_empty());

    // Each of them gave the file free.
    fs::remove_file(&path).unwrap();
    let run = Run::plain(&until(&server, &media, 2, &path, &[]));
    run.play().wait_eos();
}

/// The region is known only when the session has begun.
#[test]
fn a_region_of_the_environment_counts_as_well() {
    let media = pictures(3);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let run = Run::plain(&until(&server, &media, 2, &path, &[]));
    run.play().wait_eos();
    run.stop();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(
            CHILD,
            format!("elsewhere {} {}", server.endpoint_url(), path.display()),
        )
        .env("AWS_REGION", "sa-east-1")
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert_eq!(get_media(&server).len(), 1, "asked elsewhere");
}

fn elsewhere(endpoint: &str, path: &str) {
    init();
    let src = gst::ElementFactory::make("kvsgetmediasrc").build().unwrap();
    set(
        &src,
        &[
            ("stream-name", "cam"),
            ("access-key", kvs_local::DEFAULT_ACCESS_KEY),
            ("secret-key", kvs_local::DEFAULT_SECRET_KEY),
            ("endpoint-url", endpoint),
            ("start-selector", "earliest"),
            ("checkpoint-location", path),
        ],
    );
    let (error, _) = start_error(&src);
    assert!(error.matches(gst::ResourceError::Settings), "{error}");
    assert!(error.to_string().contains("sa-east-1"), "{error}");
}

fn push(stream: &StreamHandle, fragments: &[SynthFragment]) {
    for fragment in fragments {
        stream.push_fragment(fragment.new_fragment());
    }
}

#[test]
fn a_disk_that_fails_is_a_warning_and_the_stream_goes_on() {
    let media = pictures(6);
    let server = Server::start();
    let stream = server.stream("cam");
    push(&stream, &media.fragments[0..1]);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let zero = [("checkpoint-interval", "0"), ("end-timestamp", "")];
    let run = Run::demuxed(&until(&server, &media, 5, &path, &zero));
    run.play().wait("one", |log| log.fragments().len() == 1);
    wait("its point", || path.exists());
    let obstacle = folder.file("cam.json.tmp");
    fs::create_dir_all(obstacle.join("full")).unwrap();
    push(&stream, &media.fragments[1..3]);
    run.wait("a warning", |log| !log.warnings().is_empty());
    run.wait("three", |log| log.fragments().len() == 3);
    assert_eq!(written(&path), Some(media.fragments[0].number.clone()));
    fs::remove_dir_all(&obstacle).unwrap();
    push(&stream, &media.fragments[3..5]);
    run.wait("five", |log| log.fragments().len() == 5);
    wait("the file", || {
        written(&path) == Some(media.fragments[4].number.clone())
    });
    let log = run.stop();
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("cam.json cannot be written"),
        "{warnings:?}"
    );
}

#[test]
fn an_element_that_starts_again_does_not_wait_for_a_slow_disk() {
    let media = pictures(6);
    let server = Server::builder().enforce_rate(false).start();
    let stream = server.stream("cam");
    push(&stream, &media.fragments[0..1]);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let zero = [("checkpoint-interval", "0"), ("end-timestamp", "")];
    let run = Run::plain(&until(&server, &media, 5, &path, &zero));
    let (sender, messages) = mpsc::channel();
    let (kept, is_kept) = mpsc::channel();
    let (go_on, stopped) = mpsc::channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    let bus = run.pipeline.bus().unwrap();
    bus.set_sync_handler(move |_, message| {
        let _ = sender.send(message.clone());
        if message.type_() == gst::MessageType::Warning {
            // The writer says it, and is kept as a disk would keep it.
            let _ = kept.send(());
            let _ = stopped.lock().unwrap().recv();
        }
        gst::BusSyncReply::Drop
    });
    let next = |name: &str, index: usize| loop {
        let message = messages.recv_timeout(PATIENCE).unwrap();
        if let Some(found) = message.structure().filter(|s| s.name() == name) {
            let number = &*media.fragments[index].number;
            return assert_eq!(found.get("fragment-number"), Ok(number), "{name}");
        }
    };
    let promptly = |state: gst::State| {
        let asked = Instant::now();
        run.pipeline.set_state(state).unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "{state:?}");
    };

    promptly(gst::State::Playing);
    next("kvs-fragment", 0);
    wait("its point", || path.exists());
    let obstacle = folder.file("cam.json.tmp");
    fs::create_dir_all(obstacle.join("full")).unwrap();
    push(&stream, &media.fragments[1..3]);
    next("kvs-fragment", 1);
    next("kvs-fragment", 2);
    is_kept.recv_timeout(PATIENCE).unwrap();
    promptly(gst::State::Ready);
    fs::remove_dir_all(&obstacle).unwrap();
    // Twice, since who takes over may have to be waited for as well.
    for index in [3, 4] {
        promptly(gst::State::Playing);
        next("kvs-checkpoint", index - 1);
        push(&stream, &media.fragments[index..index + 1]);
        next("kvs-fragment", index);
        let (error, _) = start_error(&until(&server, &media, 5, &path, &[]));
        assert!(error.matches(gst::ResourceError::Busy), "{error}");
        promptly(gst::State::Ready);
    }
    assert_eq!(written(&path), Some(media.fragments[0].number.clone()));
    drop(go_on);
    wait("the file", || {
        written(&path) == Some(media.fragments[4].number.clone())
    });
}

#[test]
fn a_uri_names_no_file() {
    init();
    for element in ["kvsgetmediasrc", "kvssrc"] {
        let element = gst::ElementFactory::make(element).build().unwrap();
        let handler = element.dynamic_cast_ref::<gst::URIHandler>().unwrap();
        let error = handler
            .set_uri("kvs://cam?checkpoint-location=file:///etc/cam.json")
            .unwrap_err();
        assert!(error.matches(gst::URIError::BadUri), "{error}");
        assert!(error.to_string().contains("checkpoint-location"), "{error}");
        element.set_property("checkpoint-location", "/tmp/cam.json");
        handler.set_uri("kvs://cam?checkpoint-interval=0").unwrap();
        assert_eq!(
            element.property::<String>("checkpoint-location"),
            "/tmp/cam.json"
        );
        assert_eq!(element.property::<u32>("checkpoint-interval"), 0);
        assert!(!handler.uri().unwrap().contains("location"));
    }
}

// ---- crashes ----------------------------------------------------------------------------------

/// How often the process is killed; `KVS_KILLS` says otherwise.
const KILLS: usize = 40;

/// Random numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What the process that is killed writes of a frame.
fn line(fragment: &str, payload: &[u8]) -> String {
    format!("{fragment} {:016x}\n", hash(payload))
}

/// Plays through `kvssrc` and appends a line for each frame to a file, before the frame is taken.
fn play_and_log(endpoint: &str, folder: &Path, interval: &str, end: Option<&str>) {
    init();
    let file = fs::File::options()
        .append(true)
        .create(true)
        .open(folder.join("frames"))
        .unwrap();
    let file = Arc::new(file);
    let src = gst::ElementFactory::make("kvssrc").build().unwrap();
    let location = folder.join("cam.json");
    set(
        &src,
        &[
            ("stream-name", "cam"),
            ("aws-region", kvs_local::DEFAULT_REGION),
            ("access-key", kvs_local::DEFAULT_ACCESS_KEY),
            ("secret-key", kvs_local::DEFAULT_SECRET_KEY),
            ("endpoint-url", endpoint),
            ("data-endpoint-url", endpoint),
            ("start-selector", "earliest"),
            ("end-timestamp", end.unwrap_or_default()),
            ("max-queue-bytes", "65536"),
            ("checkpoint-location", location.to_str().unwrap()),
            ("checkpoint-interval", interval),
        ],
    );
    let pipeline = gst::Pipeline::new();
    pipeline.add(&src).unwrap();
    let weak = pipeline.downgrade();
    src.connect_pad_added(move |_, pad| {
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .build()
            .unwrap();
        weak.upgrade().unwrap().add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        let file = file.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            let meta = gst::meta::CustomMeta::from_buffer(buffer, "KvsFragmentMeta").unwrap();
            let number: String = meta.structure().get("fragment-number").unwrap();
            let line = line(&number, &buffer.map_readable().unwrap());
            (&*file).write_all(line.as_bytes()).unwrap();
            // So that one life does not see the whole stream.
            std::thread::sleep(Duration::from_micros(500));
            gst::PadProbeReturn::Ok
        })
        .unwrap();
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let last = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &last).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

/// Does nothing but in the processes that the tests of this file start.
#[test]
fn child() {
    let Some(task) = std::env::var(CHILD).ok() else {
        return;
    };
    let words: Vec<_> = task.split(' ').collect();
    match words[..] {
        ["elsewhere", endpoint, path] => elsewhere(endpoint, path),
        ["disk", folder] => disk(folder.as_ref()),
        ["play", endpoint, folder, interval] => {
            play_and_log(endpoint, folder.as_ref(), interval, None);
        }
        ["play", endpoint, folder, interval, end] => {
            play_and_log(endpoint, folder.as_ref(), interval, Some(end));
        }
        _ => panic!("{task}"),
    }
}

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(server: &Server, folder: &Path, interval: u32, end: Option<&str>) -> Process {
    let task = format!(
        "play {} {} {interval} {}",
        server.endpoint_url(),
        folder.display(),
        end.unwrap_or_default()
    );
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, task.trim_end())
        .stdout(Stdio::null())
        .spawn();
    Process(child.unwrap())
}

#[test]
fn a_crash_at_any_moment_loses_no_frame() {
    let kills = std::env::var("KVS_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let media = Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(kills * 100 + 200)
        .fragment_ms(100)
        .frames(4)
        .distinct_tokens()
        .build();
    let server = Server::builder().enforce_limits(false).start();
    media.push_to(&server.stream("cam"));
    let folder = Folder::new();
    let (log, file) = (folder.file("frames"), folder.file("cam.json"));
    let index: std::collections::HashMap<_, _> = media
        .fragments
        .iter()
        .enumerate()
        .map(|(index, fragment)| (fragment.number.as_str(), index))
        .collect();
    let expected: Vec<Vec<String>> = media
        .fragments
        .iter()
        .map(|f| {
            f.frames
                .iter()
                .map(|frame| line(&f.number, &frame.payload))
                .collect()
        })
        .collect();
    // How many lines there are before each fragment in a stream without repetition.
    let mut before = vec![0];
    for lines in &expected {
        before.push(before[before.len() - 1] + lines.len());
    }
    let expected: Vec<&String> = expected.iter().flatten().collect();
    // The fragment that a process begins with, by the file that the one before has left.
    let next = || written(&file).map_or(0, |number| index[number.as_str()] + 1);
    let size = || fs::metadata(&log).map_or(0, |metadata| metadata.len());

    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    // How far the stream has come at the furthest, in frames.
    let mut furthest = 0;
    let mut lines_read = 0;
    let (mut killed, mut repeated, mut most_repeated, mut idle) = (0, 0, 0, 0);
    let mut check = |from: usize, what: &str, furthest: &mut usize| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.split_inclusive('\n').skip(lines_read).collect();
        let first = before[from];
        assert!(
            first <= *furthest,
            "{what}: frames {furthest} to {first} are lost, by the checkpoint"
        );
        for (offset, line) in lines.iter().enumerate() {
            assert_eq!(
                line,
                expected[first + offset],
                "{what}, frame {}",
                first + offset
            );
        }
        lines_read += lines.len();
        let again = (*furthest - first).min(lines.len());
        repeated += again;
        most_repeated = most_repeated.max(again);
        idle += usize::from(lines.is_empty());
        *furthest = (*furthest).max(first + lines.len());
    };
    while killed < kills {
        let from = next();
        let interval = [0, 0, 30, 200][killed % 4];
        let length = size();
        let mut child = start(&server, &folder.0, interval, None);
        if killed % 3 == 0 {
            // At any moment, also while it starts.
            std::thread::sleep(Duration::from_millis(random.below(400)));
        } else {
            // At any moment after it has begun, and down to parts of a write.
            let more = 1 + random.below(8000);
            wait("frames", || {
                assert!(child.0.try_wait().unwrap().is_none(), "it ended by itself");
                size() > length + more
            });
            std::thread::sleep(Duration::from_micros(random.below(8000)));
        }
        child.kill();
        killed += 1;
        check(from, &format!("life {killed}"), &mut furthest);
    }
    let last = &media.fragments[media.fragments.len() - 1];
    let from = next();
    let end = media.fragments.len().min(from + 50) - 1;
    let end = seconds(
        media.fragments[end]
            .producer_timestamp_ms
            .min(last.producer_timestamp_ms),
    );
    let mut child = start(&server, &folder.0, 0, Some(&end));
    assert!(child.0.wait().unwrap().success());
    check(from, "last life", &mut furthest);
    println!(
        "{killed} kills, {idle} of them before a frame: {furthest} frames, none lost, {repeated} \
         repeated, {most_repeated} at the most after one kill"
    );
    assert!(idle < killed / 2, "most processes never began");
    assert!(furthest > 5 * killed, "the stream made little progress");
}

#[test]
fn two_processes_do_not_share_a_file() {
    let media = pictures(3);
    let server = served(&media);
    let folder = Folder::new();
    let path = folder.file("cam.json");
    let mut child = start(&server, &folder.0, 0, None);
    wait("the other process", || path.exists());
    let (error, _) = start_error(&until(&server, &media, 2, &path, &[]));
    assert!(error.matches(gst::ResourceError::Busy), "{error}");
    assert!(error.to_string().contains("cam.json is in use"), "{error}");
    child.kill();
    // The lock dies with its process.
    open(config(&path, HOUR)).unwrap();
}
