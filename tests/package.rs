//! What the packages hold: the one for crates.io, and the one for Debian. `tests/package.sh` builds
//! and installs them, which takes minutes; this looks at what they are made from.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const LIBRARY: &str = "libgstkvsgetmedia.so";
const PAGES: &str = "target/release/man/*.7.gz";

fn cargo(arguments: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

/// The crate, as `cargo metadata` describes it.
fn manifest() -> Value {
    let output = cargo(&[
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]);
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let this = |package: &&Value| package["name"] == env!("CARGO_PKG_NAME");
    packages.iter().find(this).unwrap().clone()
}

fn is_there(path: &str) -> bool {
    Path::new(ROOT).join(path).is_file()
}

#[test]
fn the_crate_holds_what_it_needs_and_nothing_else() {
    let output = cargo(&["package", "--list", "--allow-dirty", "--offline"]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!complaints.contains("warning"), "{complaints}");
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed: BTreeSet<&str> = listed.lines().collect();
    for file in [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "build.rs",
        "src/lib.rs",
    ] {
        assert!(listed.contains(file), "no {file}");
    }
    let folders = ["src/", "tests/", "examples/", "benches/"];
    let generated = [".cargo_vcs_info.json", "Cargo.toml.orig"];
    for file in &listed {
        let known = generated.contains(file) || is_there(file);
        let apart = !file.contains('/') || folders.iter().any(|folder| file.starts_with(folder));
        assert!(known && apart, "{file}");
        // Packages of their own, which are not published.
        assert!(!file.starts_with("tests/kvs-local/"), "{file}");
    }
    let manifest = manifest();
    for field in [
        "description",
        "documentation",
        "license",
        "readme",
        "rust_version",
    ] {
        assert!(manifest[field].is_string(), "no {field}");
    }
}

#[test]
fn the_library_is_installed_where_plugins_are() {
    let manifest = manifest();
    let library = &manifest["targets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|target| {
            target["crate_types"]
                .as_array()
                .unwrap()
                .contains(&"cdylib".into())
        })
        .unwrap()["name"];
    assert_eq!(LIBRARY, format!("lib{}.so", library.as_str().unwrap()));

    // What cargo-c goes by, as for the crates of gst-plugins-rs.
    let capi = &manifest["metadata"]["capi"];
    assert_eq!(capi["library"]["install_subdir"], "gstreamer-1.0");
    assert_eq!(capi["library"]["versioning"], false);
    assert_eq!(capi["header"]["enabled"], false);
    for feature in ["static", "capi", "doc"] {
        assert!(manifest["features"][feature].is_array(), "{feature}");
    }

    let deb = &manifest["metadata"]["deb"];
    let name = deb["name"].as_str().unwrap();
    assert!(name.starts_with("gstreamer1.0-"));
    assert!(is_there(deb["license-file"][0].as_str().unwrap()));
    let documents = format!("usr/share/doc/{name}/");
    let plugin = format!("usr/lib/gstreamer-1.0/{LIBRARY}");
    let mut sources = BTreeSet::new();
    for asset in deb["assets"].as_array().unwrap() {
        let [source, destination, mode] = [0, 1, 2].map(|n| asset[n].as_str().unwrap());
        let expected = match source {
            PAGES => "usr/share/man/man7/",
            // By its whole name: cargo-deb takes a library for the folder otherwise.
            _ if source == format!("target/release/{LIBRARY}") => &plugin,
            _ => {
                assert!(is_there(source), "no {source}");
                &documents
            }
        };
        assert_eq!((destination, mode), (expected, "644"), "{source}");
        assert!(sources.insert(source), "{source} twice");
    }
    let documents = [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        PAGES,
    ];
    for source in documents {
        assert!(sources.contains(source), "no {source}");
    }
    assert_eq!(sources.len(), documents.len() + 1);
}

#[test]
fn the_changes_begin_with_this_version() {
    let changes = std::fs::read_to_string(Path::new(ROOT).join("CHANGELOG.md")).unwrap();
    let latest = changes
        .lines()
        .find_map(|line| line.strip_prefix("## "))
        .unwrap();
    assert!(latest.starts_with(env!("CARGO_PKG_VERSION")), "{latest}");
}
