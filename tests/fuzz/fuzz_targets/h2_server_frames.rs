#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| shardgate::proto::fuzz::h2_server_frames(data));
