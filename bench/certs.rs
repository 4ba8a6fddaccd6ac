//! Writes many certificates: `bench-certs DIRECTORY COUNT`. For the time that a start and a reload take with them.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "bench-certs DIRECTORY COUNT";
    let directory = PathBuf::from(args.next().ok_or(usage)?);
    let count: u32 = args.next().ok_or(usage)?.parse()?;
    std::fs::create_dir_all(&directory)?;
    for number in 0..count {
        let name = format!("site-{number}.test");
        let made = rcgen::generate_simple_self_signed(vec![name.clone()])?;
        let text = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(directory.join(format!("{name}.pem")), text)?;
    }
    Ok(())
}
