//! Dense ids and the tables they index. Names are resolved at load; everything after works with ids.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut, Range};

/// A newtype over a dense index.
pub trait Id: Copy {
    /// The id at a position of its table.
    fn from_index(index: usize) -> Self;
    /// The position in its table.
    fn index(self) -> usize;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl Id for $name {
            fn from_index(index: usize) -> Self {
                $name(u32::try_from(index).expect("tables hold fewer than 2^32 entries"))
            }
            fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

ids! {
    /// A frontend of the model.
    FrontendId
    /// A backend of the model.
    BackendId
    /// A server; dense over all backends, the servers of one backend are consecutive.
    ServerId
    /// A bind of a frontend; each core has one listener for it.
    ListenerId
    /// A server among all that its backend ever had: unlike its [`ServerId`] it stays the same from one generation of the
    /// configuration to the next.
    ServerKey
    /// A stick table.
    TableId
    /// A core: data cores are 0..n, the control core is n.
    CoreId
}

/// A table indexed by its id type.
#[derive(Clone, PartialEq, Eq)]
pub struct IdVec<K, V> {
    items: Vec<V>,
    key: PhantomData<fn(K)>,
}

impl<K: Id, V> IdVec<K, V> {
    /// An empty table.
    pub fn new() -> Self {
        IdVec { items: Vec::new(), key: PhantomData }
    }
    /// Appends and returns the new id.
    pub fn push(&mut self, value: V) -> K {
        self.items.push(value);
        K::from_index(self.items.len() - 1)
    }
    /// The id that the next [`push`](Self::push) returns.
    pub fn next_id(&self) -> K {
        K::from_index(self.items.len())
    }
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    /// The entry, if the id is in the table.
    pub fn get(&self, id: K) -> Option<&V> {
        self.items.get(id.index())
    }
    /// The entry, writable, if the id is in the table.
    pub fn get_mut(&mut self, id: K) -> Option<&mut V> {
        self.items.get_mut(id.index())
    }
    /// Entries in id order.
    pub fn values(&self) -> std::slice::Iter<'_, V> {
        self.items.iter()
    }
    /// Entries in id order, writable.
    pub fn values_mut(&mut self) -> std::slice::IterMut<'_, V> {
        self.items.iter_mut()
    }
    /// Ids and entries in id order, writable.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (K, &mut V)> + ExactSizeIterator {
        self.items.iter_mut().enumerate().map(|(i, v)| (K::from_index(i), v))
    }
    /// Ids and entries in id order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> + ExactSizeIterator {
        self.items.iter().enumerate().map(|(i, v)| (K::from_index(i), v))
    }
    /// All ids.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = K> + ExactSizeIterator + use<K, V> {
        (0..self.items.len()).map(K::from_index)
    }
    /// The entries of a range of ids.
    pub fn slice(&self, range: &IdRange<K>) -> &[V] {
        &self.items[range.start.index()..range.end.index()]
    }
}

impl<K: Id, V> Default for IdVec<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Id, V> FromIterator<V> for IdVec<K, V> {
    fn from_iter<I: IntoIterator<Item = V>>(iter: I) -> Self {
        IdVec { items: iter.into_iter().collect(), key: PhantomData }
    }
}

impl<K: Id, V> Index<K> for IdVec<K, V> {
    type Output = V;
    fn index(&self, id: K) -> &V {
        &self.items[id.index()]
    }
}

impl<K: Id, V> IndexMut<K> for IdVec<K, V> {
    fn index_mut(&mut self, id: K) -> &mut V {
        &mut self.items[id.index()]
    }
}

impl<K, V: fmt::Debug> fmt::Debug for IdVec<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

/// Consecutive ids: the servers of a backend, the binds of a frontend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdRange<K> {
    /// First id.
    pub start: K,
    /// One past the last id.
    pub end: K,
}

impl<K: Id> IdRange<K> {
    /// From a half-open range.
    pub fn new(range: Range<K>) -> Self {
        IdRange { start: range.start, end: range.end }
    }
    /// How many ids.
    pub fn len(&self) -> usize {
        self.end.index() - self.start.index()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All ids in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = K> + ExactSizeIterator + use<K> {
        (self.start.index()..self.end.index()).map(K::from_index)
    }
    /// Whether the id lies in the range.
    pub fn contains(&self, id: K) -> bool {
        (self.start.index()..self.end.index()).contains(&id.index())
    }
}
