#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| shardgate::import::fuzz::haproxy_cfg(data));
