//! Sends inputs through a target. Under `tests/fuzz` libFuzzer makes them up, otherwise they are files.
#![cfg_attr(fuzzing, no_main)]

use std::path::Path;

use estafet_fuzz::TARGETS;

/// Writes each target's seeds and words, where `tests/fuzz` looks for them: `FOLDER/TARGET/NUMBER`, `FOLDER/TARGET.dict`.
fn write_seeds(folder: &Path) -> std::io::Result<()> {
    for target in &TARGETS {
        let seeds = folder.join(target.name);
        std::fs::create_dir_all(&seeds)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(seeds.join(format!("seed-{number}")), seed)?;
        }
        let hex = |word: &&[u8]| word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let words: String = target.words.iter().map(|word| format!("\"{}\"\n", hex(word))).collect();
        std::fs::write(folder.join(format!("{}.dict", target.name)), format!("# {}\n{words}", target.name))?;
    }
    Ok(())
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: {
        let mut arguments = std::env::args().skip(1);
        if arguments.next().as_deref() == Some("seeds") {
            let folder = arguments.next().expect("a folder is named");
            write_seeds(Path::new(&folder)).expect("seeds can be written");
            std::process::exit(0);
        }
    },
    |input: &[u8]| {
        static CHECK: std::sync::LazyLock<fn(&[u8])> = std::sync::LazyLock::new(|| {
            let name = std::env::var("ESTAFET_FUZZ_TARGET").expect("ESTAFET_FUZZ_TARGET names the target");
            TARGETS.iter().find(|target| target.name == name).expect("the target is one of TARGETS").check
        });
        CHECK(input);
    }
);

#[cfg(not(fuzzing))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["seeds", folder] => write_seeds(Path::new(folder))?,
        [name, ref files @ ..] if !files.is_empty() => {
            let target = TARGETS.iter().find(|target| target.name == name).ok_or("there is no such target")?;
            for file in files {
                (target.check)(&std::fs::read(file)?);
            }
        }
        _ => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            return Err(format!("usage: estafet-fuzz seeds FOLDER, or TARGET FILE… of {}", names.join(", ")).into());
        }
    }
    Ok(())
}
