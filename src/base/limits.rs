//! Every bound, with its name and the reason for its value.

use std::time::Duration;

/// Bytes of one receive buffer. One TCP segment train of a fast LAN fits, a request head as HAProxy accepts it
/// (`tune.bufsize` 16384) fits, and a few of them stay in the L2 cache.
pub const BUF_BYTES: usize = 16 * 1024;

/// Servers of one backend. Weighted maps stay below 2^20 slots and `show stat` below a few MB.
pub const SERVERS_PER_BACKEND_MAX: usize = 4096;

/// HAProxy's range of server weights (0 drains).
pub const WEIGHT_MAX: u32 = 256;

/// Points of one consistent-hash ring: 8 bytes each on each core. 160 servers of weight 100 get all their points.
pub const HASH_RING_POINTS_MAX: usize = 1 << 18;

/// Slots of one map-based hash table: 4 bytes each on each core. 256 servers whose weights have no common divisor fit.
pub const HASH_MAP_SLOTS_MAX: usize = 1 << 16;

/// Retries of a connection attempt that a configuration may ask for.
pub const RETRIES_MAX: u32 = 100;

/// Sessions waiting for a slot of one backend when `maxqueue` is not set. Beyond it waiting costs memory and helps nobody.
pub const QUEUE_LEN_MAX: usize = 100_000;

/// Bytes of a PROXY protocol header: 536 is what a sender may rely on (spec section 2.2); we accept TLVs up to this.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Bytes of a PROXY protocol header of version 1, CRLF included: the longest line that its grammar has (spec section 2.1).
pub const PROXY_V1_BYTES_MAX: usize = 107;

/// Bytes of the head of an HTTP/1 message (`max-header-bytes`): one receive buffer, as HAProxy's `tune.bufsize`.
pub const HEAD_BYTES_MAX: usize = BUF_BYTES;

/// Header lines of one head (`max-headers`): HAProxy's `tune.http.maxhdr`.
pub const HEADERS_MAX: usize = 101;

/// Bytes of a request target: what RFC 9110 4.1 asks every recipient to take, 8000 octets, rounded up.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a method. Registered ones have at most 17 (RFC 9112 3 asks for 501 beyond what a server knows).
pub const METHOD_BYTES_MAX: usize = 64;

/// Bytes of a header name. Longer names are attacks; real ones stay below 100.
pub const HEADER_NAME_BYTES_MAX: usize = 1024;

/// Bytes of one TLS handshake message: rustls' own bound, and more than any certificate chain in use.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of answers to key updates that may wait for a peer that takes none: some thousand of them.
pub const TLS_QUEUED_BYTES_MAX: usize = 64 * 1024;

/// Memory of sealed records that a core keeps for the next ones is no larger: bodies come in less (a connection of HTTP/2
/// gathers 128 KiB and a frame).
pub const TLS_SPARE_BYTES_MAX: usize = 256 * 1024;

/// From this size on it is kept apart, for records with data of bodies.
pub const TLS_SPARE_LARGE_BYTES: usize = 4 * 1024;

/// How many of the small ones: a busy core answers that many connections in a turn.
pub const TLS_SMALL_SPARES_MAX: usize = 256;

/// How many of the large ones: as many connections of a core send bulk in the same turn on a busy day.
pub const TLS_LARGE_SPARES_MAX: usize = 32;

/// Bytes of an OCSP response: some kB, with the certificate of the responder.
pub const OCSP_BYTES_MAX: u64 = 64 * 1024;

/// Certificates of a client's chain that are looked at one by one, where errors in them may be ignored: more than any authority
/// has between its root and a client.
pub const TLS_CHAIN_MAX: usize = 10;

/// Fields of certificates that a connection remembers the text of: more than the rules and formats of a frontend ask for, as a
/// rule. Those beyond it are read anew by each request.
pub const TLS_FIELDS_KNOWN_MAX: usize = 16;

/// Bytes that a client may send before the end of its handshake (`allow-0rtt`): a request's head, as nothing with a body is
/// answered so early.
pub const TLS_EARLY_BYTES_MAX: u32 = 16 * 1024;

/// Sessions of the process that may begin with early data. Each is good for one connection, so all cores share them; about 1 kB
/// each.
pub const TLS_EARLY_SESSIONS: usize = 20_000;

/// Steps of TLS handshakes in a turn of a core's loop. A step may sign, which takes 30 us with ECDSA and 0.6 ms with RSA: eight
/// keep a turn below 5 ms, and the cost of a turn well below that of its handshakes.
pub const TLS_STEPS_PER_TURN: u32 = 8;

/// Sessions that a core keeps of each bind for clients that take no tickets: few do not, and each session is about 1 kB.
pub const TLS_SESSION_CACHE_DEFAULT: u32 = 256;

/// Keys that open session tickets: the one that seals, one for those of its predecessor, one that machines agree on before it
/// is used. As many as HAProxy has.
pub const TICKET_KEYS_MAX: usize = 3;

/// A certificate is near its end in the last of so many parts of its life: the time in which it should have been renewed.
pub const CERTIFICATE_WARNING_PART: i64 = 4;
/// But not earlier than this before its end: three weeks.
pub const CERTIFICATE_WARNING_S: i64 = 21 * 24 * 3600;

/// Bytes of a file with a certificate, its chain and its key: a hundred of the largest.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Files of one directory of certificates.
pub const CERTIFICATES_PER_DIRECTORY_MAX: usize = 1 << 20;

/// Empty lines before a request line that are skipped: RFC 9112 2.2 asks for one.
pub const EMPTY_LINES_MAX: usize = 2;

/// Bytes that the edits of one head may take, so that no rule loop or regex makes a head grow without end.
pub const HEAD_EDIT_BYTES_MAX: usize = 64 * 1024;

/// Header lines that may be added to one head.
pub const HEAD_EDIT_FIELDS_MAX: usize = 256;

/// Bytes of the extensions of one chunk, `;` included. Nobody uses them for more than a signature.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;

/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// PING frames of one client of HTTP/2 in ten seconds. Libraries of gRPC measure the path with them, a few a round trip.
pub const H2_PINGS_MAX: u32 = 2000;

/// SETTINGS frames of one client in ten seconds; each is answered. Clients send one, and another when they change their mind.
pub const H2_SETTINGS_MAX: u32 = 100;

/// PRIORITY frames of one client in ten seconds. They mean nothing (RFC 9113 5.3.2) and come a few a request from old ones.
pub const H2_PRIORITIES_MAX: u32 = 10_000;

/// DATA frames without data or an end, of one client in ten seconds. Some libraries flush with one.
pub const H2_EMPTY_DATA_MAX: u32 = 1000;

/// Windows of a few bytes that a client gives us while nothing much moves. A client that reads slowly opens its window by what
/// it read, which is more.
pub const H2_DRIBBLES_MAX: u32 = 1000;

/// CONTINUATION frames of one head: four times what a head of the largest size needs in frames of the least size.
pub const H2_CONTINUATIONS_MAX: u32 = 8;

/// Frames of unknown types of one client in ten seconds. Extensions send one now and then (RFC 9113 5.5).
pub const H2_OTHER_FRAMES_MAX: u32 = 1000;

/// How long a connection of HTTP/2 that we said goodbye to is waited for once its streams are over.
pub const H2_GOODBYE: Duration = Duration::from_secs(2);

/// How long a connection of HTTP/2 must have been without a stream to be sent away when a newer configuration runs.
pub const H2_SETTLED: Duration = Duration::from_secs(1);

/// The share of the streams of a connection to a server that is kept free by opening the next one ahead of need: a burst of so
/// many waits for no connect.
pub const H2_AHEAD_SHARE: u32 = 8;

/// Idle server connections that a core keeps towards one place, whatever `pool-max-conn` allows: descriptors are shared by
/// all pools, and more connections than this are not needed for any load that one core can serve.
pub const IDLE_PER_POOL_MAX: usize = 1024;

/// Memory that a core keeps for the next requests, of each kind (buffers, tables of headers, tasks, a few kilobytes each): as much
/// as a busy core uses at a time, and as many requests as it has server connections for. What nobody needs any more goes.
pub const KEPT_FOR_REQUESTS_MAX: usize = IDLE_PER_POOL_MAX;

/// Idle HTTP sessions of a core that keep the memory of a busy one for a short while: those of a load generator or of
/// chatty clients. The others give it back at once, so that thousands of quiet clients cost little.
pub const BUSY_IDLE_MAX: usize = 128;

/// Threads that check password hashes: two, so that one slow hash does not hold up all the others.
pub const AUTH_THREADS: usize = 2;

/// Passwords that wait to be checked: at 10 ms each and two threads the last one waits little more than a second. Beyond
/// it requests are answered with 503; credentials that were verified lately are not concerned.
pub const AUTH_QUEUE_MAX: usize = 256;

/// Passwords of one client address that one core has checked at a time, so that a flood of wrong ones from one place leaves
/// the queue to the others. A browser opens six connections.
pub const AUTH_PER_CLIENT_MAX: u32 = 8;

/// Credentials that a core remembers, right and wrong ones, each about 100 bytes.
pub const AUTH_CACHE_MAX: usize = 4096;

/// How long right credentials are remembered, and with that how long a hash that was removed by a reload would still be asked
/// for: a minute, so that a page with a hundred files costs one check.
pub const AUTH_GOOD_FOR: Duration = Duration::from_secs(60);

/// How long wrong ones are: a client that repeats its mistake costs one check in this time.
pub const AUTH_BAD_FOR: Duration = Duration::from_secs(5);

/// How long a request waits for its password to be checked.
pub const AUTH_WAIT: Duration = Duration::from_secs(10);

/// Bytes of a request's body that `wait-for-body` waits for at most; one receive buffer, as HAProxy's `tune.bufsize`.
pub const BODY_WAIT_BYTES_MAX: usize = BUF_BYTES;

/// Bytes of the first message that `inspect-delay` may look at; one receive buffer.
pub const INSPECT_BYTES_MAX: usize = BUF_BYTES;

/// Batches of durations of one core that wait for the control core, 64 KiB each: seconds of a fully loaded core. Beyond it
/// durations are dropped and counted (`timers_lost` of `show activity`).
pub const TIMER_BATCHES_MAX: usize = 64;

/// Bytes of the history of statistics: a day of about 900 servers that are busy all the time. A busy row takes 25 bytes a frame
/// and there are 2760 frames; a row without traffic takes none.
pub const HISTORY_BYTES_MAX: usize = 64 << 20;

/// Versions of a pattern file that are prepared at once (`prepare map`).
pub const PATTERN_VERSIONS_MAX: usize = 4;

/// Entries of a pattern file that the admin socket may bring about: about a hundred MB.
pub const PATTERN_ENTRIES_MAX: usize = 1 << 20;

/// Bytes of a malformed message that `show errors` keeps, around the offending one.
pub const CAPTURE_BYTES_MAX: usize = 2048;

/// Malformed messages that a core hands over in a second; the rest is counted alone.
pub const CAPTURES_PER_SECOND: u32 = 16;

/// Malformed messages that are kept, the last ones.
pub const CAPTURES_MAX: usize = 64;

/// Descriptors that `show fd` lists: reading them takes about two microseconds each, and the control core waits for it.
pub const DESCRIPTORS_SHOWN_MAX: usize = 8192;

/// Longest line the admin socket accepts. HAProxy's is its buffer size; payloads of `<<` count as lines each.
pub const ADMIN_LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one payload (`<<`) of the admin socket: a certificate chain or a large map.
pub const ADMIN_PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Characters of a command that the audit log shows.
pub const AUDIT_CHARS_MAX: usize = 512;

/// Answers of the admin socket are written out once they reach this, before the next command of the line runs.
pub const ADMIN_OUTPUT_BYTES: usize = 64 * 1024;

/// Lines of `show stat` that the control core writes before other tasks have their turn: a quarter of a millisecond.
pub const STATISTICS_LINES_A_TURN: usize = 64;

/// Bytes of a long answer that the kernel holds at once for a client of an admin socket: the statistics of 6,000 servers. With
/// it a client that does not read holds as much there as the answer took here.
pub const ADMIN_HELD_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Seconds after which a quiet admin connection is closed, unless it says `set timeout cli`.
pub const ADMIN_TIMEOUT_S: u64 = 60;

/// Longest `wait` and longest `set timeout cli`.
pub const ADMIN_WAIT_S_MAX: u64 = 24 * 3600;

/// Admin connections served at once; the next is told so and closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Lines that wait for a slow log output; about a megabyte. Beyond it lines are dropped and counted.
pub const LOG_QUEUE_LINES: usize = 8192;

/// Bytes that wait for a slow log output, whatever their lines are.
pub const LOG_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of log lines that a core holds until the control core takes them: 50 ms of 100,000 lines of 200 bytes a second.
pub const LOG_RING_BYTES: usize = 1024 * 1024;

/// Memory of log lines in the making that a core keeps for the next ones.
pub const LOG_RECORDS_MAX: usize = 256;

/// For how long a core tells the time of its log lines without asking the wall clock, which costs as much as a tenth of a line;
/// a clock that was set shows after that.
pub const LOG_CLOCK: Duration = Duration::from_millis(100);

/// How long lines may gather before the control core sends them: the first line after a rest goes at once.
pub const LOG_GATHER: Duration = Duration::from_millis(5);

/// From so many lines at once on they go to a UDP target sorted by length: only a busy log is worth it.
pub const LOG_SORT_MIN: usize = 32;

/// Spans that wait for a collector; the default of OpenTelemetry's batch processor, as are the next three.
pub const SPAN_QUEUE: usize = 2048;

/// Spans of one request to a collector.
pub const SPAN_BATCH: usize = 512;

/// How long spans gather.
pub const SPAN_GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take.
pub const SPAN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a batch is sent before it is given up.
pub const SPAN_ATTEMPTS: usize = 3;

/// Longest span, in bytes: attributes are bounded by the head of the request, escaped.
pub const SPAN_BYTES: u32 = 60_000;

/// Bytes that wait for a syslog stream that is slow or not there.
pub const LOG_STREAM_BYTES: usize = 1024 * 1024;

/// Time between attempts to reach a log target.
pub const LOG_RETRY: Duration = Duration::from_secs(1);

/// How long a process that ends waits for a slow log output.
pub const LOG_FLUSH: Duration = Duration::from_secs(1);

/// How long a process that ends waits for syslog streams and collectors, of which one may be on the other side of an ocean; only
/// while they have something to take.
pub const LOG_LEAVE: Duration = Duration::from_secs(3);

/// For how long further events with the same text are only counted.
pub const LOG_REPEAT: Duration = Duration::from_secs(10);

/// Different texts that are watched for repetition at once; others are logged each time.
pub const LOG_REPEAT_TEXTS_MAX: usize = 256;

/// Bytes of the process's own log that are kept for `show events process`: some thousand lines, a night with its states of servers.
pub const PROCESS_RING_BYTES: u32 = 256 << 10;

/// Time between attempts to bind an address that could not be bound.
pub const BIND_RETRY: Duration = Duration::from_secs(1);

/// How long a stopping process waits for the cores to report once it has told them to end all sessions.
pub const KILL_WAIT: Duration = Duration::from_secs(2);

/// How often a stopping process says how many sessions it waits for.
pub const STOP_REPORT: Duration = Duration::from_secs(5);

/// Bytes of an answer that a scripted health check looks at; one receive buffer.
pub const CHECK_BYTES_MAX: usize = BUF_BYTES;

/// Bounds of the time between two look-ups of a name, whatever its TTL says: a TTL of 0 must not flood the name server, and
/// a change is noticed within the hour.
pub const RESOLVE_TTL_MIN: Duration = Duration::from_secs(1);
/// See [`RESOLVE_TTL_MIN`].
pub const RESOLVE_TTL_MAX: Duration = Duration::from_secs(3600);

/// Time until a name is looked up again that could not be resolved.
pub const RESOLVE_RETRY: Duration = Duration::from_secs(5);

/// How long the start waits for the first answers of the resolver.
pub const RESOLVE_START: Duration = Duration::from_secs(2);

/// Targets of a service that are looked up: as many as a backend may have servers would be more than any answer holds.
pub const RESOLVE_TARGETS_MAX: usize = 1024;

/// Look-ups at once: each has a few descriptors.
pub const RESOLVE_AT_ONCE: usize = 32;

/// How long an origin of `shardgate demo` waits for the next request.
pub const DEMO_IDLE: Duration = Duration::from_secs(30);

/// File descriptors of the process and of each core beyond sockets and pipes: standard streams, logs, rings, eventfds.
pub const DESCRIPTORS_PROCESS: u64 = 32;
/// See [`DESCRIPTORS_PROCESS`].
pub const DESCRIPTORS_PER_CORE: u64 = 16;

/// Client connections that are allowed when neither the configuration nor the descriptors say less; what one address
/// with all its ports can hold sixteen times.
pub const MAXCONN_MAX: u32 = 1 << 20;

/// Depth of parentheses in a condition: the parser recurses.
pub const CONDITION_DEPTH_MAX: usize = 64;

/// Bytes of a configuration file, for the same reason as with pattern files.
pub const CONFIG_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of a pattern file (`-f`), so that a wrong path to a device or a disk image ends.
pub const PATTERN_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Length of the accept queue of a bind when `backlog` is not set; the kernel limits it to net.core.somaxconn (4096).
pub const BACKLOG_DEFAULT: u32 = 4096;

/// Longest duration of a configuration: HAProxy's limit (2^31 ms, 24.8 days) in whole days, so that whatever loads here
/// loads there.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 86_400);

/// Attempts to run a configuration that `show generations` tells about, with the text of each: enough for a day of work.
pub const GENERATIONS_KEPT: usize = 20;

/// Runtime changes that are remembered at once: entries of large maps are most of them. Beyond it a change works, but a restart
/// forgets it, and the log says so.
pub const OVERRIDES_MAX: usize = 100_000;

/// Bytes of a state file that are read: several times what so many overrides need.
pub const STATE_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Lines of the past that a state file may have beside one for each of the present before it is written anew.
pub const STATE_LINES_SPARE: usize = 64;

/// Comparisons in the condition of a trial (`reload abort-if`).
pub const ABORT_CONDITION_TERMS_MAX: usize = 16;

/// Requests that must be seen before a percentage or a percentile of a trial means something: one error of a handful is none.
pub const ABORT_SAMPLES_MIN: u64 = 20;

/// Seconds over which a trial's values are measured, and over which the values before it were.
pub const TRIAL_WINDOW_S: u64 = 10;

/// How long a process that was replaced keeps connections on which no request is under way: a client that uses its connection
/// moves to the other process with its next answer.
pub const HANDOVER_GRACE: Duration = Duration::from_secs(10);

/// The shortest trial: values are looked at once a second.
pub const TRIAL_MIN: Duration = Duration::from_secs(1);

/// Bytes of the configurations that `rollback` keeps beside the one that runs; beyond it the oldest are forgotten.
pub const CONFIGURATIONS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Seconds between two attempts to go back to the configuration before when it cannot be run any more.
pub const TRIAL_RETRY: Duration = Duration::from_secs(5);

const _: () = assert!(HASH_RING_POINTS_MAX >= SERVERS_PER_BACKEND_MAX);
const _: () = assert!(HASH_MAP_SLOTS_MAX >= SERVERS_PER_BACKEND_MAX);
const _: () = assert!(PROXY_HEADER_BYTES_MAX <= BUF_BYTES);
const _: () = assert!(PROXY_V1_BYTES_MAX <= PROXY_HEADER_BYTES_MAX);
const _: () = assert!(INSPECT_BYTES_MAX <= BUF_BYTES);

/// Requests for statistics that the control core answers at once; the streams of live pages are among them. More wait.
pub const WEB_CONNECTIONS_MAX: usize = 256;

/// Bytes of a form that the statistics page takes: some thousand names of servers.
pub const WEB_FORM_BYTES_MAX: usize = 64 * 1024;

/// Rows whose graphs the statistics page draws from the history at once; beyond it graphs begin empty.
pub const WEB_GRAPHS_MAX: usize = 500;

/// Counters that one connection or request can have (`track-sc0` to `track-sc2`): HAProxy's default.
pub const STICK_COUNTERS: usize = 3;

/// Entries of one stick table: a few hundred bytes each, on each core.
pub const STICK_ENTRIES_MAX: u32 = 1 << 27;

/// Bytes of a key of a stick table. Longer texts are documents, not names of anybody.
pub const STICK_KEY_BYTES_MAX: u16 = 4096;

/// Columns of a stick table: an entry has one bit for each of them.
pub const STICK_COLUMNS_MAX: usize = 64;

/// Keys that one request has a server remembered for.
pub const STICK_STORES_MAX: usize = 8;

/// How long a core keeps what it counted in stick tables to itself. The others hear of it 50 times a second at most, however
/// many requests there are; a limit can be exceeded by what they let pass meanwhile.
pub const STICK_SHARE_EVERY: Duration = Duration::from_millis(20);

/// Rules of a list that look at the same (`path_beg` and its like) from which on one look-up is less than all of them.
pub const RULES_GROUP_MIN: usize = 4;

/// Rules of a stretch from which on it is looked up at all.
pub const RULES_RUN_MIN: usize = 8;
