//! The one gate of the data plane: nothing is sent upstream, and no books are opened, without an [`Admission`].
//!
//! A [`Permit`] lets a caller's request in before its body is read; `reserve` turns it into an [`Admission`] by taking what
//! the request may cost from every quota and every limit on tokens that it counts against, the key's and the user's, or
//! from none of them. There is no other way to one. It ends with the truth, or gives back what it took.

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

/// One request that was let in; dropped, its place is free again.
#[derive(Debug)]
pub struct Permit {
    caller: Arc<Caller>,
    places: Places,
    pub figures: Option<Figures>,
}

/// The key's, and the user's where they have limits. None for a request inside a session, whose places it shares.
pub(super) type Places = (Option<Place>, Option<Place>);

/// What a request may cost, beside its prompt.
#[derive(Clone, Debug)]
pub struct Estimate {
    pub request: RequestId,
    /// Decides, with the quota's zone, which period it counts in.
    pub began: WallTime,
    pub output_tokens: u32,
    pub cap: OutputCap,
    /// The dearest of those that may answer.
    pub price: Price,
}

impl Estimate {
    /// Of a request that begins now and names no cap.
    pub fn assuming(output_tokens: u32, price: Price) -> Self {
        let (request, began) = (RequestId::generate(), time::wall_now());
        Self { request, began, output_tokens, cap: OutputCap::Assumed, price }
    }
}

/// A prompt whose tokens are not known yet.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    pub model: &'a ModelName,
    pub body: &'a Bytes,
    pub holds_files: bool,
}

/// The right to be sent upstream and to have books.
#[derive(Debug)]
pub struct Admission {
    /// What the ledger is to know the request by.
    pub request: RequestId,
    pub began: WallTime,
    _places: Places,
    taken: SmallVec<[Taken; 2]>,
    reserved: SmallVec<[Reserved; 2]>,
    /// Of a request that is under way although it did not fit: what it costs counts all the same.
    owing: Option<Arc<Caller>>,
    /// For the answer's headers.
    pub tokens: Option<Figures>,
}

impl Permit {
    pub(super) fn new(caller: Arc<Caller>, places: Places, figures: Option<Figures>) -> Self {
        Self { caller, places, figures }
    }

    /// Takes what a request with this prompt may cost, or says what it does not fit.
    pub async fn reserve(self, estimate: Estimate, prompt: Prompt<'_>) -> Result<Admission, Limited> {
        let (caller, mut admission) = self.open(&estimate);
        if caller.counts_tokens() {
            let first = match bound::by_bytes(prompt.body, prompt.holds_files) {
                Some(most) => Some(admission.borrow_and_take(&caller, &estimate, Size::OfBytes(most)).await),
                None => None,
            };
            match first {
                Some(Ok(())) => {}
                Some(Err(refused)) if refused.is_final => return Err(refused.why),
                Some(Err(_)) | None => {
                    let size = Size::OfContents(contents(prompt).await);
                    admission.borrow_and_take(&caller, &estimate, size).await.map_err(|refused| refused.why)?;
                }
            }
        }
        admission.tokens = caller.token_figures();
        Ok(admission)
    }

    /// The same for a prompt whose tokens are known, or as good as known.
    pub async fn reserve_tokens(self, estimate: Estimate, input_tokens: u32) -> Result<Admission, Limited> {
        let (caller, mut admission) = self.open(&estimate);
        if caller.counts_tokens() {
            let size = Size::OfContents(Bound { most: input_tokens, least: input_tokens });
            admission.borrow_and_take(&caller, &estimate, size).await.map_err(|refused| refused.why)?;
        }
        admission.tokens = caller.token_figures();
        Ok(admission)
    }

    /// For what is under way whatever the limits say: it reserves nothing where it does not fit, and costs what it costs.
    pub fn reserve_begun(self, estimate: Estimate, input_tokens: u32) -> Admission {
        let (caller, mut admission) = self.open(&estimate);
        let size = Size::OfContents(Bound { most: input_tokens, least: input_tokens });
        if caller.counts_tokens() && admission.take(&caller, &estimate, size).is_err() {
            admission.owing = Some(caller);
        }
        admission
    }

    fn open(self, estimate: &Estimate) -> (Arc<Caller>, Admission) {
        let Self { caller, places, .. } = self;
        let admission = Admission {
            request: estimate.request,
            began: estimate.began,
            _places: places,
            taken: SmallVec::new(),
            reserved: SmallVec::new(),
            owing: None,
            tokens: None,
        };
        (caller, admission)
    }
}

/// Looked at elsewhere: other requests of this thread do not wait for it.
async fn contents(prompt: Prompt<'_>) -> Bound {
    let rough = crate::openai::tokens::rough_input(prompt.body);
    let (model, body) = (prompt.model.clone(), prompt.body.clone());
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
    /// Where quotas are shared with other gateways, what is not in hand is borrowed first.
    async fn borrow_and_take(&mut self, caller: &Caller, estimate: &Estimate, size: Size) -> Result<(), Refused> {
        let mut denied = None;
        for quota in caller.quotas() {
            if let Some(borrower) = quota.borrower() {
                let claim = estimate.claim(size);
                if !quota.has_room_for(claim.full)
                    && let Err(why) = borrower.borrow(quota, claim).await
                {
                    denied = denied.or(Some(why));
                }
            }
        }
        self.take(caller, estimate, size).map_err(|mut refused| {
            if let (Limited::Quota(short), Some(denied)) = (&mut refused.why, denied) {
                denied.explain(short);
            }
            refused
        })
    }

    /// Takes from each, or from none.
    fn take(&mut self, caller: &Caller, estimate: &Estimate, size: Size) -> Result<(), Refused> {
        let claim = estimate.claim(size);
        let taken = self.take_all(caller, estimate, claim, |may_fit| match size {
            Size::OfBytes(_) => !may_fit,
            Size::OfContents(_) => true,
        });
        if taken.is_err() {
            self.taken.clear();
            self.reserved.clear();
        }
        taken
    }

    fn take_all(
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
        let now = time::now();
        for (limit, whose) in caller.token_limits() {
            let taken = limit.take(claim.full.tokens, claim.least.tokens, now);
            self.taken.push(taken.map_err(|scarce| Refused {
                // What is too large for ever by its bytes may fit a little later by its contents.
                is_final: is_final(scarce.retry_after.is_none() || claim.bare.tokens <= scarce.room),
                why: too_many(scarce, whose, claim.least.tokens),
            })?);
        }
        Ok(())
    }

    /// What was taken, for work that goes on when the request is answered, and that the ledger will know by this name. The
    /// request itself has nothing left to settle, and keeps its place.
    pub fn hand_on(&mut self, request: RequestId) -> Self {
        let (taken, mut reserved) = (std::mem::take(&mut self.taken), std::mem::take(&mut self.reserved));
        reserved.iter_mut().for_each(|reserved| reserved.rename(request));
        let owing = self.owing.take();
        Self { request, began: self.began, _places: (None, None), taken, reserved, owing, tokens: None }
    }

    /// What the request has cost in the end, as the ledger says it.
    pub fn settle(&mut self, truth: Amount) {
        for taken in &mut self.taken {
            taken.settle(truth.tokens);
        }
        for reserved in &mut self.reserved {
            reserved.settle(truth);
        }
        if let Some(caller) = self.owing.take() {
            let now = time::now();
            caller.token_limits().for_each(|(limit, _)| limit.spend(truth.tokens, now));
            caller.quotas().iter().for_each(|quota| quota.spend(self.request, truth, self.began));
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
            Size::OfContents(Bound { most, least }) => (most, Some(least)),
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
            bare: amount(most.min(1), asked),
        }
    }
}
