//! User names and passwords: those of machines by their hash, users' by bcrypt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use config::{Config, TokenHash};
use jiff::Timestamp;
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::authz::still_good;
use super::{Caller, Identity, Refusal, random};

/// How long a verified password is remembered: bcrypt is slow on purpose.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How long a wrong one is: a client that repeats it costs one comparison in that time.
const WRONG_REMEMBERED: Duration = Duration::from_secs(10);
/// Passwords that wait for their comparison; more are turned away, so that nobody waits for minutes.
const QUEUE: usize = 64;
/// What a password is compared with for a name that nobody has, so that the answer takes as long (bcrypt of nothing).
const NOBODY: &str = "$2b$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Verifies passwords, once for all who send the same at a time, and remembers the result for a while.
pub struct Credentials {
    key: hmac::Key,
    known: Cache<[u8; 32], Option<Caller>>,
    /// bcrypt takes a core for itself: a flood of wrong passwords must not take them all.
    at_once: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

struct Lifetime;

impl Expiry<[u8; 32], Option<Caller>> for Lifetime {
    fn expire_after_create(&self, _: &[u8; 32], caller: &Option<Caller>, _: Instant) -> Option<Duration> {
        Some(if caller.is_some() { REMEMBERED } else { WRONG_REMEMBERED })
    }
}

impl Default for Credentials {
    fn default() -> Self {
        let key = random::<32>().unwrap_or_default();
        let at_once = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            known: Cache::builder().max_capacity(10_000).expire_after(Lifetime).build(),
            at_once: Arc::new(Semaphore::new(at_once)),
            queue: Arc::new(Semaphore::new(QUEUE)),
        }
    }
}

impl Credentials {
    /// Finds whose user name and password these are.
    ///
    /// # Errors
    /// [`Refusal::WrongCredentials`] whatever is wrong with them; [`Refusal::Busy`] in a flood of sign-ins.
    pub async fn verify(
        &self,
        config: &Config,
        user: &str,
        password: &str,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let found = match machine(config, user, password, now) {
            Some(caller) => Some(caller),
            None => {
                let key = self.known_under(config, user, password);
                let compare = self.static_user(config, user, password);
                self.known.try_get_with(key, compare).await.map_err(|refusal| (*refusal).clone())?
            }
        };
        found.filter(|caller| still_good(config, caller, now).is_ok()).ok_or(Refusal::WrongCredentials)
    }

    /// Keyed with a random key of this process: memory holds no password and no hash that could be looked up. With
    /// the configuration in it, a changed password is good at once.
    fn known_under(&self, config: &Config, user: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [config.hash.as_str(), user, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    async fn static_user(
        &self,
        config: &Config,
        user: &str,
        password: &str,
    ) -> Result<Option<Caller>, Refusal> {
        let _place = self.queue.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let found = config.instance.users.hashes.get(user);
        let hash = found.map_or_else(|| NOBODY.to_owned(), |hash| hash.expose().to_owned());
        let password = password.to_owned();
        let turn = self.at_once.clone().acquire_owned().await;
        let right = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let right = right.await.unwrap_or(false);
        let fingerprint = user_fingerprint(config, user).filter(|_| right);
        Ok(fingerprint.map(|fingerprint| Caller { identity: Identity::User(user.to_owned()), fingerprint }))
    }
}

/// Whose deploy token or binding's credential it is, in whatever group.
fn machine(config: &Config, user: &str, password: &str, now: Timestamp) -> Option<Caller> {
    let key = &config.instance.keys.instance;
    let mut named = config.credentials.named(user).filter(|credential| credential.is_good(now)).peekable();
    named.peek()?;
    let shown = TokenHash::of(key, password);
    named.find(|credential| credential.hash == shown).map(Caller::from)
}

/// Changes with the user's password.
pub(super) fn user_fingerprint(config: &Config, user: &str) -> Option<String> {
    let hash = config.instance.users.hashes.get(user)?;
    Some(config::fingerprint(&[b"user", user.as_bytes(), hash.expose().as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_for_nobody_is_one_that_bcrypt_compares() {
        assert_eq!(bcrypt::verify("anything", NOBODY).ok(), Some(false));
    }
}
