//! Log targets of one generation after another: what a reload adds is opened before anything changes, what stays is kept open, and
//! what no generation needs any more is closed. How lines get there is `logs`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use crate::control::log_outlet::{HeldHead, Kind, Opened, Outlet};
use crate::control::log_sink::LogSink;
use crate::control::logs::{Outlets, State};
use crate::control::otlp::Collector;
use crate::model::LogTarget;
use crate::model::log::{LogSet, Logging, Output, Ring};
use crate::model::tls::ServerTls;
use crate::rt::StartError;
use crate::tls::{self, Connector};

/// The addresses of log targets: looked up where it may take a while.
#[derive(Clone, Default, Debug)]
pub(super) struct Resolved(Arc<AHashMap<String, Result<SocketAddr, String>>>);

impl Resolved {
    /// Looks up all that a model names.
    pub(super) fn of(logging: &Logging) -> Resolved {
        let addresses = logging.outputs.iter().filter_map(|output| match output {
            Output::Udp(address) | Output::Tcp { address, .. } | Output::Spans { address, .. } => {
                Some(address)
            }
            _ => None,
        });
        Resolved(Arc::new(addresses.map(|address| (address.clone(), resolve(address))).collect()))
    }

    fn get(&self, address: &str) -> Result<SocketAddr, StartError> {
        let found = self.0.get(address).cloned().unwrap_or_else(|| resolve(address));
        found.map_err(|why| StartError(format!("cannot resolve the log target {address}: {why}")))
    }
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = address.to_socket_addrs().map_err(|e| e.to_string())?;
    found.next().ok_or_else(|| "it has no address".to_owned())
}

/// What a generation logs to, with everything open.
pub(super) struct Change {
    /// For each output its place among those that are open, or the output itself.
    outlets: Vec<Result<usize, (Output, Opened)>>,
    sets: Vec<LogSet>,
}

impl Change {
    /// Opens what is not open; `find` tells where an output is that is.
    ///
    /// # Errors
    /// A file cannot be opened, or a name not resolved.
    pub(super) fn new(
        logging: &Logging,
        resolved: &Resolved,
        store: &tls::Store,
        find: impl Fn(&Output) -> Option<usize>,
    ) -> Result<Change, StartError> {
        let mut outlets = Vec::with_capacity(logging.outputs.len());
        for output in &logging.outputs {
            outlets.push(match find(output) {
                Some(place) => Ok(place),
                None => Err((output.clone(), open(output, &logging.rings, resolved, store)?)),
            });
        }
        Ok(Change { outlets, sets: logging.sets.clone() })
    }
}

fn open(
    output: &Output,
    rings: &[Ring],
    resolved: &Resolved,
    store: &tls::Store,
) -> Result<Opened, StartError> {
    let sink = |target: LogTarget| {
        let sink = LogSink::open(&target);
        sink.map(Opened::Sink).map_err(|e| StartError(format!("cannot open the log {target}: {e}")))
    };
    Ok(match output {
        Output::Stderr => sink(LogTarget::Stderr)?,
        Output::Stdout => sink(LogTarget::Stdout)?,
        Output::File(path) => sink(LogTarget::File(path.clone()))?,
        Output::Udp(address) => Opened::Udp(resolved.get(address)?),
        Output::Tcp { address, framing } => Opened::Stream(resolved.get(address)?, *framing),
        Output::Unix(path) => Opened::Unix(path.clone()),
        Output::Spans { address, path, service, tls } => {
            let connector = |tls: &ServerTls| Connector::of_peer(tls, address, store);
            let tls = tls.as_deref().map(connector).transpose();
            Opened::Spans(Collector {
                address: resolved.get(address)?,
                host: address.clone(),
                path: path.clone(),
                service: service.clone(),
                tls: tls.map_err(|e| StartError(format!("cannot speak TLS with {address}: {e}")))?,
            })
        }
        Output::Ring(index) => Opened::Ring(rings[*index].clone()),
    })
}

impl Outlets {
    /// Opens what another generation logs to and this one does not.
    ///
    /// # Errors
    /// A file cannot be opened, or a name not resolved.
    pub(super) fn prepare(
        &self,
        logging: &Logging,
        resolved: &Resolved,
        store: &tls::Store,
    ) -> Result<Change, StartError> {
        let state = self.state.borrow();
        Change::new(logging, resolved, store, |output| {
            let is_same = |outlet: &Outlet| match (&outlet.kind, output) {
                // Rings of two generations are the same if their settings are.
                (Kind::Ring(ring), Output::Ring(index)) => *ring.settings() == logging.rings[*index],
                (Kind::Ring(_), _) | (_, Output::Spans { tls: Some(_), .. }) => false,
                _ => outlet.output == *output,
            };
            state.outlets.iter().position(|outlet| outlet.as_ref().is_some_and(is_same))
        })
    }

    /// The sets of a generation that begins. Lines of it name its sets from the first of these on.
    pub(super) fn add(&self, change: Change) -> Range<u16> {
        let state = &mut *self.state.borrow_mut();
        let places: Vec<usize> = change.outlets.into_iter().map(|outlet| state.place(outlet)).collect();
        let sets: Vec<LogSet> = change
            .sets
            .into_iter()
            .map(|mut set| {
                for target in &mut set.targets {
                    target.output = places[target.output];
                }
                set
            })
            .collect();
        let first = state.room(sets.len());
        let range = first..first + sets.len();
        for (at, set) in range.clone().zip(sets) {
            state.counts[at] = vec![0; set.targets.len()];
            state.sets[at] = Some(set);
        }
        // What headers were made of is another set now.
        for outlet in state.outlets.iter_mut().flatten() {
            outlet.head = HeldHead::default();
        }
        (state.first, state.current) = (first, places);
        // A model has less than a thousandth of that, and what is over is given back.
        let number = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        number(range.start)..number(range.end)
    }

    /// No core writes to these sets any more: closes what nobody else uses.
    pub(super) fn release(&self, sets: Range<u16>) {
        // What was written before is handed out first.
        self.drain_once();
        let state = &mut *self.state.borrow_mut();
        for at in sets {
            state.sets[usize::from(at)] = None;
        }
        let mut used: AHashSet<usize> = state.current.iter().copied().collect();
        used.extend(state.sets.iter().flatten().flat_map(|set| &set.targets).map(|target| target.output));
        for (at, outlet) in state.outlets.iter_mut().enumerate().filter(|(at, _)| !used.contains(at)) {
            debug_assert!(!used.contains(&at));
            if let Some(gone) = outlet.take() {
                self.dropped.set(self.dropped.get() + gone.dropped_by_itself());
            }
        }
    }
}

impl State {
    fn place(&mut self, outlet: Result<usize, (Output, Opened)>) -> usize {
        let (output, opened) = match outlet {
            Ok(place) => return place,
            Err(new) => new,
        };
        let place = self.outlets.iter().position(Option::is_none).unwrap_or(self.outlets.len());
        if place == self.outlets.len() {
            self.outlets.push(None);
        }
        self.outlets[place] = Some(Outlet::new(output, opened));
        place
    }

    /// The first of so many free places in a row.
    fn room(&mut self, count: usize) -> usize {
        let is_free = |first: &usize| self.sets[*first..].iter().take(count).all(Option::is_none);
        let first = (0..=self.sets.len()).find(is_free).unwrap_or(self.sets.len());
        let len = self.sets.len().max(first + count);
        self.sets.resize(len, None);
        self.counts.resize(len, Vec::new());
        first
    }
}
