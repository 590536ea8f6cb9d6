//! The requests of one connection, by id.
//!
//! There is nearly always only one, so the first is stored in the structure itself; further ones are in a
//! vector sorted by id. The rules about them are in `request_state.rs`.

use crate::record::RequestId;

/// What one side of the protocol stores about a request.
pub(crate) trait WithId {
    /// The request's id; it never changes.
    fn id(&self) -> RequestId;
}

/// The requests of a connection, at most one per id.
#[derive(Debug)]
pub(crate) struct Requests<R> {
    first: Option<R>,
    /// Sorted by id; none has the id of `first`.
    others: Vec<R>,
}

impl<R> Default for Requests<R> {
    fn default() -> Self {
        Requests { first: None, others: Vec::new() }
    }
}

impl<R: WithId> Requests<R> {
    /// Returns the request with this id.
    #[inline]
    pub(crate) fn get(&self, id: RequestId) -> Option<&R> {
        match &self.first {
            Some(first) if first.id() == id => Some(first),
            _ => self.position(id).ok().map(|index| &self.others[index]),
        }
    }

    /// Returns the request with this id, if there is one.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut R> {
        match &self.first {
            Some(first) if first.id() == id => self.first.as_mut(),
            _ => self.position(id).ok().map(|index| &mut self.others[index]),
        }
    }

    /// Inserts a request, replacing any with the same id.
    pub(crate) fn insert(&mut self, request: R) {
        match &self.first {
            Some(first) if first.id() == request.id() => self.first = Some(request),
            _ => match self.position(request.id()) {
                Ok(index) => self.others[index] = request,
                Err(_) if self.first.is_none() => self.first = Some(request),
                Err(index) => self.others.insert(index, request),
            },
        }
    }

    /// Removes the request with this id.
    pub(crate) fn remove(&mut self, id: RequestId) {
        /// A vector of this many requests is kept: under 256 bytes.
        const KEPT: usize = 4;
        if self.first.as_ref().is_some_and(|first| first.id() == id) {
            self.first = None;
        } else if let Ok(index) = self.position(id) {
            self.others.remove(index);
            if self.others.is_empty() && self.others.capacity() > KEPT {
                self.others = Vec::new();
            }
        }
    }

    /// Removes all requests.
    pub(crate) fn clear(&mut self) {
        *self = Requests::default();
    }

    /// Iterates over all requests.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &R> {
        self.first.iter().chain(&self.others)
    }

    /// Returns the number of requests.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    #[inline]
    fn position(&self, id: RequestId) -> Result<usize, usize> {
        self.others.binary_search_by_key(&id, |request| R::id(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bodies::Role;
    use crate::request_state::RequestState;

    fn id(number: u16) -> RequestId {
        RequestId::new(number).unwrap()
    }

    fn request(number: u16) -> RequestState {
        RequestState::new(id(number), Role::Responder, true)
    }

    #[test]
    fn requests_are_found_by_id_in_any_order() {
        let mut requests = Requests::default();
        for number in [5, 3, 9, 1, 7] {
            requests.insert(request(number));
        }
        requests.remove(id(5));
        requests.insert(request(2));
        requests.insert(request(9));
        assert_eq!(requests.len(), 5);
        for number in 1..=10 {
            let there = [1, 2, 3, 7, 9].contains(&number);
            assert_eq!(
                requests.get(id(number)).map(|found| found.id.get()),
                there.then_some(number)
            );
            assert_eq!(requests.get_mut(id(number)).is_some(), there);
        }
        for number in [9, 1, 2, 3, 7, 7] {
            requests.remove(id(number));
        }
        assert_eq!(requests.len(), 0);
    }
}
