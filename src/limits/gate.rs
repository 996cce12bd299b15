//! The one gate of the data plane: nothing is sent upstream, and no books are opened, without an [`Admission`].
//!
//! A [`Permit`] lets a caller's request in before its body is read; [`Permit::reserve`] turns it into an [`Admission`] by
//! taking what the request may cost from every quota and every limit on tokens that it counts against, the key's and the
//! user's, or from none of them. There is no other way to one. It ends with the truth, or gives back what it took.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Caller;
use super::meter::{Figures, Place, Scarce, Taken};
use super::quota::Reserved;
use super::refusal::{Limited, Whose};
use crate::balance::budget::{Amount, Claim, Short};
use crate::domain::demand::OutputCap;
use crate::domain::ids::{ModelName, RequestId};
use crate::domain::money::Price;
use crate::domain::time::{self, WallTime};
use crate::openai::bound::{self, Bound};

/// One admitted request; dropped, its place is free again.
#[derive(Debug)]
pub struct Permit {
    caller: Arc<Caller>,
    /// The key's, and the user's where they have limits.
    places: (Place, Option<Place>),
    pub figures: Option<Figures>,
}

/// What a request may cost.
#[derive(Clone, Debug)]
pub struct Estimate {
    pub request: RequestId,
    /// Decides, with the zone, which period it counts in.
    pub began: WallTime,
    pub model: ModelName,
    pub body: Bytes,
    pub output_tokens: u32,
    pub cap: OutputCap,
    /// The dearest of those that may answer.
    pub price: Price,
}

/// The right to be sent upstream and to have books.
#[derive(Debug)]
pub struct Admission {
    _places: (Place, Option<Place>),
    taken: SmallVec<[Taken; 2]>,
    reserved: SmallVec<[Reserved; 2]>,
    /// For the answer's headers.
    pub tokens: Option<Figures>,
}

impl Permit {
    pub(super) fn new(caller: Arc<Caller>, places: (Place, Option<Place>), figures: Option<Figures>) -> Self {
        Self { caller, places, figures }
    }

    /// Takes what the request may cost, or says what it does not fit.
    pub async fn reserve(self, estimate: Estimate) -> Result<Admission, Limited> {
        let Self { caller, places, .. } = self;
        let mut admission =
            Admission { _places: places, taken: SmallVec::new(), reserved: SmallVec::new(), tokens: None };
        if caller.counts_tokens() {
            let first = bound::by_bytes(&estimate.body).map(Size::OfBytes);
            let refused = match first {
                Some(size) => match admission.take(&caller, &estimate, size) {
                    Ok(()) => None,
                    Err(refused) if refused.is_final => return Err(refused.why),
                    Err(refused) => Some(refused.why),
                },
                None => None,
            };
            if first.is_none() || refused.is_some() {
                let size = Size::OfContents(contents(&estimate).await);
                admission.take(&caller, &estimate, size).map_err(|refused| refused.why)?;
            }
        }
        admission.tokens = caller.token_figures();
        Ok(admission)
    }
}

/// Looked at elsewhere: other requests of this thread do not wait for it.
async fn contents(estimate: &Estimate) -> Bound {
    let (model, body) = (estimate.model.clone(), estimate.body.clone());
    let rough = crate::openai::tokens::rough_input(&body);
    let counted = actix_web::web::block(move || bound::by_contents(model.as_str(), &body)).await;
    // The blocking pool is gone: the process is ending.
    counted.unwrap_or(Bound { most: rough, least: rough })
}

/// How the prompt's size is known.
#[derive(Clone, Copy)]
enum Size {
    OfBytes(u32),
    OfContents(Bound),
}

struct Refused {
    why: Limited,
    /// A closer look at the prompt changes nothing.
    is_final: bool,
}

impl Admission {
    /// Takes from each, or from none.
    fn take(&mut self, caller: &Caller, estimate: &Estimate, size: Size) -> Result<(), Refused> {
        let claim = estimate.claim(size);
        let closer = |fits: bool| !fits || matches!(size, Size::OfContents(_));
        let taken = self.reserve_quotas(caller, estimate, claim, closer).and_then(|()| {
            let now = time::now();
            for (limit, whose) in caller.token_limits() {
                let taken = limit.take(claim.full.tokens, claim.least.tokens, now);
                self.taken.push(taken.map_err(|scarce| Refused {
                    // What is too large for ever by its bytes may fit a little later by its contents.
                    is_final: closer(scarce.retry_after.is_none() || claim.bare.tokens <= scarce.room),
                    why: too_many(scarce, whose, claim.least.tokens),
                })?);
            }
            Ok(())
        });
        if taken.is_err() {
            self.taken.clear();
            self.reserved.clear();
        }
        taken
    }

    fn reserve_quotas(
        &mut self,
        caller: &Caller,
        estimate: &Estimate,
        claim: Claim,
        is_final: impl Fn(bool) -> bool,
    ) -> Result<(), Refused> {
        for quota in caller.quotas() {
            let reserved = quota.reserve(estimate.request, claim, estimate.began);
            self.reserved.push(reserved.map_err(|short| {
                let Short { free, .. } = short.short;
                Refused { is_final: is_final(claim.bare.fits(free)), why: Limited::Quota(Box::new(short)) }
            })?);
        }
        Ok(())
    }

    /// What the request has cost in the end, as the ledger says it.
    pub fn settle(&mut self, truth: Amount) {
        for taken in &mut self.taken {
            taken.settle(truth.tokens);
        }
        for reserved in &mut self.reserved {
            reserved.settle(truth);
        }
    }
}

fn too_many(scarce: Scarce, whose: Whose, needs: u64) -> Limited {
    let Scarce { tpm, retry_after, .. } = scarce;
    match retry_after {
        Some(retry_after) => Limited::Tokens { retry_after, tpm, whose },
        None => Limited::TooLarge { needs, tpm, whose },
    }
}

impl Estimate {
    fn claim(&self, size: Size) -> Claim {
        let (most, least) = match size {
            Size::OfBytes(most) => (most, None),
            Size::OfContents(Bound { most, least }) => (most, Some(least.max(1))),
        };
        let output = u64::from(self.output_tokens);
        // Nobody asked for what is only assumed: a word of it will do.
        let asked = match self.cap {
            OutputCap::Asked => output,
            OutputCap::Assumed => output.min(1),
        };
        let amount = |input: u32, output: u64| Amount {
            tokens: u64::from(input).saturating_add(output),
            cost: self.price.most(input.into(), output),
        };
        Claim {
            full: amount(most, output),
            least: amount(most, asked),
            alone: least.map(|least| amount(least, asked)),
            bare: amount(1, asked),
        }
    }
}
