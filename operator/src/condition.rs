//! Conditions of a status, as the API conventions want them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Bytes of a message: the API server takes 32768, people read one sentence or a few.
const LONGEST: usize = 2048;

/// What is said of one aspect of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    True,
    False,
    Unknown,
}

/// The conditions of an object while its status is made.
pub struct Conditions {
    generation: Option<i64>,
    now: Timestamp,
    list: Vec<Condition>,
    switched_off: Option<String>,
}

impl Conditions {
    /// Goes on from what the object's status says now.
    #[must_use]
    pub fn of(current: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { generation, now, list: current.to_vec(), switched_off: None }
    }

    /// All may be well, and every pull is refused all the same: somebody wants it so.
    pub fn switch_off(&mut self, message: impl Into<String>) {
        self.switched_off = Some(message.into());
    }

    /// Says one thing. The time moves only when the state does.
    pub fn set(&mut self, kind: &str, state: State, reason: &str, message: impl Into<String>) {
        let status = match state {
            State::True => "True",
            State::False => "False",
            State::Unknown => "Unknown",
        };
        let message = shortened(message.into());
        let since = self.list.iter().find(|c| c.type_ == kind && c.status == status);
        let since = since.map_or(Time(self.now), |condition| condition.last_transition_time.clone());
        self.unset(kind);
        self.list.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: self.generation,
            last_transition_time: since,
        });
    }

    /// Says nothing of one thing any more.
    pub fn unset(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_ != kind);
    }

    /// Sums up in `Ready`: the first of these types that is not true decides. Returns what the column READY shows.
    pub fn sum_up(&mut self, types: &[&str], reason: &str, message: &str) -> String {
        let wanting = types.iter().find_map(|kind| {
            self.list.iter().find(|condition| condition.type_ == *kind && condition.status != "True").cloned()
        });
        let switched_off = self.switched_off.take();
        match (wanting, switched_off) {
            (Some(condition), _) => {
                self.set("Ready", State::False, &condition.reason, condition.message);
                condition.reason
            }
            (None, Some(message)) => {
                self.set("Ready", State::False, "Disabled", message);
                "Disabled".to_owned()
            }
            (None, None) => {
                self.set("Ready", State::True, reason, message);
                "True".to_owned()
            }
        }
    }

    /// The conditions, by type, so that the same ones are always written in the same order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Condition> {
        self.list.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.list
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn the_time_moves_only_when_the_state_does() {
        let mut first = Conditions::of(&[], Some(1), at(1));
        first.set("Accepted", State::True, "Accepted", "");
        let first = first.finish();
        let mut second = Conditions::of(&first, Some(2), at(2));
        second.set("Accepted", State::True, "Accepted", "still");
        let second = second.finish();
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((second[0].observed_generation, second[0].message.as_str()), (Some(2), "still"));
        let mut third = Conditions::of(&second, Some(2), at(3));
        third.set("Accepted", State::False, "PathConflict", "");
        assert_eq!(third.finish()[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn ready_shows_the_reason_of_the_first_thing_that_is_wanting() {
        let mut conditions = Conditions::of(&[], Some(1), at(1));
        conditions.set("Accepted", State::True, "Accepted", "");
        conditions.set("Programmed", State::Unknown, "Pending", "waiting for pods");
        assert_eq!(conditions.sum_up(&["Accepted", "Programmed"], "Serving", ""), "Pending");
        let ready = conditions.finish().into_iter().find(|condition| condition.type_ == "Ready");
        assert_eq!(ready.map(|c| (c.status, c.message)), Some(("False".into(), "waiting for pods".into())));
    }
}
