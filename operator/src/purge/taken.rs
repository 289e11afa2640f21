//! Which instances have taken what an annotation asks for, while it waits for others.

use std::collections::{BTreeSet, HashMap};

use config::ObjectId;
use parking_lot::Mutex;

/// By the object's uid and the annotation: nobody is asked for the same value twice. The next operator asks once more
/// for what is not done.
#[derive(Default)]
pub struct Taken(Mutex<HashMap<String, HashMap<&'static str, Wish>>>);

#[derive(Default)]
struct Wish {
    value: String,
    by: BTreeSet<ObjectId>,
}

impl Taken {
    /// The instances that have taken this value.
    pub(crate) fn by(&self, uid: &str, annotation: &str, value: &str) -> BTreeSet<ObjectId> {
        let all = self.0.lock();
        let wish = all.get(uid).and_then(|wishes| wishes.get(annotation));
        wish.filter(|wish| wish.value == value).map(|wish| wish.by.clone()).unwrap_or_default()
    }

    /// Takes note that this instance has taken it. Another value begins anew.
    pub(crate) fn note(&self, uid: &str, annotation: &'static str, value: &str, instance: &ObjectId) {
        let mut all = self.0.lock();
        let wish = all.entry(uid.to_owned()).or_default().entry(annotation).or_default();
        if wish.value != value {
            *wish = Wish { value: value.to_owned(), by: BTreeSet::new() };
        }
        wish.by.insert(instance.clone());
    }

    /// The object is no more.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_taken_a_value_is_known_until_it_is_another_or_the_object_is_gone() {
        let taken = Taken::default();
        let instance = |name: &str| ObjectId { namespace: "a".to_owned(), name: name.to_owned() };
        taken.note("1", "purge", "monday", &instance("main"));
        taken.note("1", "purge", "monday", &instance("second"));
        taken.note("1", "purge-image", "alpine", &instance("main"));
        assert_eq!(taken.by("1", "purge", "monday"), BTreeSet::from([instance("main"), instance("second")]));
        assert_eq!(taken.by("1", "purge-image", "alpine"), BTreeSet::from([instance("main")]));
        for (uid, annotation, value) in
            [("2", "purge", "monday"), ("1", "purge-image", "monday"), ("1", "purge", "tuesday")]
        {
            assert!(taken.by(uid, annotation, value).is_empty(), "{uid} {annotation} {value}");
        }
        taken.note("1", "purge", "tuesday", &instance("main"));
        assert_eq!(taken.by("1", "purge", "tuesday"), BTreeSet::from([instance("main")]));
        assert!(taken.by("1", "purge", "monday").is_empty(), "it is asked for once more");
        taken.forget("1");
        assert!(taken.0.lock().is_empty());
    }
}
