//! Writes what fuzzing begins with, `corpus/<target>/*`, from streams that are made here.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`

use gst_plugin_kvsgetmedia_fuzz::SIZES;
use kvs_local::synth::{Blocks, ClusterSize, Lacing, Synth, TrackSpec};
use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let bodies = bodies();
    for target in ["reader", "assembler"] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (index, body) in bodies.iter().enumerate() {
            for (name, sizes) in [("bytes", [0; SIZES]), ("chunks", [6, 40, 1, 130])] {
                let seed = [&sizes[..], body].concat();
                fs::write(folder.join(format!("{name}-{index}")), seed)?;
            }
        }
    }
    // These two read structures out of their bytes: any will do, if they are many enough.
    for target in ["normaliser", "tags"] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (index, body) in bodies.iter().enumerate() {
            fs::write(
                folder.join(format!("noise-{index}")),
                noise(index as u64, body.len()),
            )?;
        }
    }
    Ok(())
}

/// Bodies of every form that producers write.
fn bodies() -> Vec<Vec<u8>> {
    let tracks = || [TrackSpec::h264(1), TrackSpec::aac(2)];
    let forms = [
        (Lacing::None, Blocks::Simple),
        (Lacing::Xiph, Blocks::Group),
        (Lacing::Ebml, Blocks::Mixed),
        (Lacing::Fixed, Blocks::Simple),
    ];
    let mut bodies = Vec::new();
    for (index, (lacing, blocks)) in forms.into_iter().enumerate() {
        let synth = || {
            Synth::new()
                .tracks(tracks())
                .fragments(2)
                .frames(3)
                .payload(4, 12)
                .lacing(lacing, 2)
                .blocks(blocks)
        };
        let unknown = synth().cluster_size(ClusterSize::Unknown).distinct_tokens();
        bodies.push(synth().build().recording().to_vec());
        bodies.push(unknown.build().recording().to_vec());
        let tags = [("camera", "front"), ("place", "yard\0\0")];
        let everything = synth().everything().tags_before(&tags).tags_after(&tags);
        bodies.push(everything.seed(index as u64).build().recording().to_vec());
    }
    bodies
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
