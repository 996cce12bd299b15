//! The line before a model whose deployments are all busy: fair among callers, in order for each.
//!
//! It decides who is next and nothing else; how long one may wait, and how many, is the router's business.

use std::collections::VecDeque;

/// Callers take turns, so that one with a hundred requests waiting delays another's first by one, not by a hundred.
#[derive(Debug)]
pub struct Line<K, W> {
    /// Whose turn it is first; no caller stands here twice, and none without a request.
    callers: VecDeque<(K, VecDeque<W>)>,
}

impl<K, W> Default for Line<K, W> {
    fn default() -> Self {
        Self { callers: VecDeque::new() }
    }
}

impl<K: PartialEq, W> Line<K, W> {
    pub fn push(&mut self, caller: K, request: W) {
        match self.callers.iter_mut().find(|(key, _)| *key == caller) {
            Some((_, requests)) => requests.push_back(request),
            None => self.callers.push_back((caller, VecDeque::from([request]))),
        }
    }

    /// Gives the turn back to one who could not use it.
    pub fn push_front(&mut self, caller: K, request: W) {
        match self.callers.iter().position(|(key, _)| *key == caller).and_then(|at| self.callers.remove(at)) {
            Some((caller, mut requests)) => {
                requests.push_front(request);
                self.callers.push_front((caller, requests));
            }
            None => self.callers.push_front((caller, VecDeque::from([request]))),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    /// Whose turn it is.
    pub fn front(&self) -> Option<&W> {
        self.callers.front().and_then(|(_, requests)| requests.front())
    }

    /// Takes the one whose turn it is; the next turn is another caller's.
    pub fn pop(&mut self) -> Option<W> {
        let (caller, mut requests) = self.callers.pop_front()?;
        let request = requests.pop_front();
        if !requests.is_empty() {
            self.callers.push_back((caller, requests));
        }
        request
    }

    /// Takes out those that wait no longer.
    pub fn leave(&mut self, mut leaves: impl FnMut(&W) -> bool) -> Vec<W> {
        let mut left = Vec::new();
        for (_, requests) in &mut self.callers {
            let mut at = 0;
            while let Some(request) = requests.get(at) {
                if leaves(request) {
                    left.extend(requests.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        self.callers.retain(|(_, requests)| !requests.is_empty());
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(requests: &[(char, u32)]) -> Line<char, (char, u32)> {
        let mut line = Line::default();
        for (caller, request) in requests {
            line.push(*caller, (*caller, *request));
        }
        line
    }

    #[test]
    fn callers_take_turns() {
        let mut line = line(&[('a', 1), ('a', 2), ('a', 3), ('b', 1), ('c', 1), ('b', 2)]);
        assert_eq!(line.front(), Some(&('a', 1)));
        let order: Vec<_> = std::iter::from_fn(|| line.pop()).collect();
        assert_eq!(order, [('a', 1), ('b', 1), ('c', 1), ('a', 2), ('b', 2), ('a', 3)]);
        assert!(line.is_empty());
    }

    #[test]
    fn a_turn_can_be_given_back() {
        let mut line = line(&[('a', 1), ('b', 1), ('a', 2)]);
        let first = line.pop().unwrap();
        line.push_front(first.0, first);
        let order: Vec<_> = std::iter::from_fn(|| line.pop()).collect();
        assert_eq!(order, [('a', 1), ('b', 1), ('a', 2)]);
    }

    #[test]
    fn those_who_leave_keep_nobody_waiting() {
        let mut line = line(&[('a', 1), ('b', 1), ('b', 2)]);
        assert_eq!(line.leave(|(caller, request)| *caller == 'a' || *request == 2), [('a', 1), ('b', 2)]);
        assert_eq!((line.pop(), line.pop()), (Some(('b', 1)), None));
    }

    proptest! {
        /// Nobody is lost, and between two turns of a caller every other who waits has one.
        #[test]
        fn nobody_is_passed_over(requests in prop::collection::vec(0u8..5, 1..60)) {
            let mut line = Line::default();
            for (n, caller) in requests.iter().enumerate() {
                line.push(*caller, (*caller, n));
            }
            let order: Vec<(u8, usize)> = std::iter::from_fn(|| line.pop()).collect();
            prop_assert_eq!(order.len(), requests.len());
            for caller in 0..5 {
                let own: Vec<_> = order.iter().filter(|(who, _)| *who == caller).map(|(_, n)| *n).collect();
                prop_assert!(own.is_sorted());
                for other in 0..5 {
                    let count = |upto: usize, who: u8| order[..upto].iter().filter(|(own, _)| *own == who).count();
                    for upto in 0..order.len() {
                        let waiting = count(order.len(), other) > count(upto, other);
                        prop_assert!(!waiting || count(upto, caller) <= count(upto, other) + 1);
                    }
                }
            }
        }
    }
}
