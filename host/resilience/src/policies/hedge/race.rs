//! The race of the attempts: who starts when, who wins, what becomes of the others.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use smallvec::SmallVec;
use tokio::time::{Sleep, sleep_until};

use super::rules::{HedgeRules, Standing};
use crate::branch::Branch;
use crate::budget::Extra;
use crate::call::Call;
use crate::clock;
use crate::condition::Asker;
use crate::error::{Error, ErrorKind, Origin, Reached};
use crate::event::{HedgeEvent, NoHedge};
use crate::layers;
use crate::outcome::{Outcome, OutcomeExt};
use crate::policies::waiting::Waiting;
use crate::policy::Next;
use crate::retry_after::asks_for_rest;
use crate::scope::Scope;

/// What all runs of a race have in common.
#[derive(Clone, Copy)]
pub(super) struct Race<'a> {
    pub(super) rules: &'a HedgeRules,
    pub(super) call: &'a Call,
    pub(super) next: Next<'a>,
    pub(super) asker: Asker<'a>,
    /// Of the first run.
    pub(super) scope: &'a Scope<'a>,
    pub(super) delay: Duration,
}

/// Where the first run stands when the race begins.
pub(super) enum First<'a> {
    Running(LocalBoxFuture<'a, Outcome>),
    Failed(Outcome),
}

/// A run under way. It ends with what its outcome means.
struct Runner<'a> {
    /// Its number among the hedges; 0: it is the first.
    number: u32,
    branch: &'a Branch<'a>,
    run: LocalBoxFuture<'a, (Outcome, Standing)>,
}

/// What happens next.
enum RaceStep {
    Ended {
        number: u32,
        outcome: Outcome,
        standing: Standing,
    },
    /// The next one is due.
    Due,
}

/// Where a race stands.
struct Field<'a> {
    race: Race<'a>,
    /// In the order of their start.
    runners: Vec<Runner<'a>>,
    /// Of the last one that has started.
    latest: &'a Branch<'a>,
    launched: u32,
    /// No more start.
    is_closed: bool,
    /// The upstream has asked to be left alone.
    is_pushed_back: bool,
    /// Nothing of the request has reached the upstream, as far as attempts have ended.
    is_untouched: bool,
    /// The best of those that have failed.
    best: Option<Outcome>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<'a> Race<'a> {
    /// What goes out, and the number of the run that has won, if one has.
    pub(super) async fn run(
        self,
        first: First<'a>,
        branch: &'a Branch<'a>,
    ) -> (Outcome, Option<u32>) {
        let _racing = Waiting::begin(&self.rules.racing);
        let outer = self.next.scope().branch();
        let branches: SmallVec<[Branch<'_>; 1]> =
            (0..self.rules.max_hedges).map(|_| Branch::within(outer)).collect();
        let mut field = Field::new(self, branch);
        match first {
            First::Running(run) => field.add(0, run),
            First::Failed(outcome) => {
                field.keep(outcome);
                field.launch(&branches);
            }
        }
        while !field.runners.is_empty() {
            match field.step().await {
                RaceStep::Due => field.launch(&branches),
                RaceStep::Ended { number, outcome, standing: Standing::Wins } => {
                    field.win(number, &outcome);
                    return (outcome, Some(number));
                }
                RaceStep::Ended { outcome, standing, .. } => {
                    field.keep(outcome);
                    // Another one can't help where we turn calls away ourselves.
                    if field.runners.is_empty() && standing == Standing::Failed {
                        field.launch(&branches);
                    }
                }
            }
        }
        (field.into_best(), None)
    }

    /// Whether one more may start; `alone`: none is under way.
    fn may_launch(&self, field: &Field<'_>) -> Result<Option<Extra<'a>>, NoHedge> {
        let Self { rules, call, .. } = *self;
        let is_alone = field.runners.is_empty();
        if field.is_pushed_back {
            return Err(NoHedge::RetryAfter);
        }
        if !(rules.may_repeat(call) || is_alone && field.is_untouched) {
            return Err(NoHedge::Method);
        }
        if call.request().is_upgrade() && !is_alone {
            return Err(NoHedge::Upgrade);
        }
        // One after the other, they may read it as it comes.
        let body = call.body();
        if !body.can_repeat() || !(body.has_come() || is_alone) {
            return Err(if body.is_squeezed() { NoHedge::Memory } else { NoHedge::Body });
        }
        let is_extra = layers::is_extra(call)
            || field.best.as_ref().is_some_and(|best| layers::retries_elsewhere(call, best));
        if is_extra {
            return Err(NoHedge::Retried);
        }
        let Some(budget) = rules.budget.of(self.next.scope()) else { return Ok(None) };
        budget.try_extra(clock::now()).map(Some).ok_or(NoHedge::Budget)
    }
}

impl<'a> Field<'a> {
    fn new(race: Race<'a>, branch: &'a Branch<'a>) -> Self {
        Self {
            race,
            runners: Vec::with_capacity(2),
            latest: branch,
            launched: 0,
            is_closed: false,
            is_pushed_back: false,
            is_untouched: true,
            best: None,
            alarm: None,
        }
    }

    /// The last that has started.
    fn add(&mut self, number: u32, run: LocalBoxFuture<'a, Outcome>) {
        let Race { rules, call, asker, .. } = self.race;
        let run = Box::pin(async move {
            let mut outcome = run.await;
            let standing = rules.judge(call, asker, &mut outcome).await;
            (outcome, standing)
        });
        self.runners.push(Runner { number, branch: self.latest, run });
    }

    /// Starts one more, or says why not.
    fn launch<'b: 'a>(&mut self, branches: &'b [Branch<'b>]) {
        let Some(branch) = branches.get(self.launched as usize).filter(|_| !self.is_closed) else {
            return;
        };
        let Race { rules, call, next, scope, .. } = self.race;
        let extra = match self.race.may_launch(self) {
            Ok(extra) => extra,
            Err(reason) => {
                self.is_closed = true;
                call.emit(&rules.name, HedgeEvent::Skipped { reason });
                return;
            }
        };
        let asked = call.asked(self.latest.last_attempt()).or_else(|| self.latest.asked(call));
        let asked = asked.unwrap_or_default();
        self.launched += 1;
        self.latest = branch;
        let hedge = self.launched;
        call.emit(&rules.name, HedgeEvent::Launched { hedge, asked });
        let run = Box::pin(async move {
            let _extra = extra;
            let scope = scope.branching(branch).run_beside(call, &rules.name, hedge);
            next.within(&scope).run(call).await
        });
        self.add(hedge, run);
    }

    /// What happens next. Of a run that ends when the next one is due, the end comes first.
    async fn step(&mut self) -> RaceStep {
        poll_fn(|cx| {
            for index in 0..self.runners.len() {
                if let Poll::Ready((outcome, standing)) = self.runners[index].run.as_mut().poll(cx)
                {
                    let Runner { number, .. } = self.runners.remove(index);
                    return Poll::Ready(RaceStep::Ended { number, outcome, standing });
                }
            }
            self.poll_due(cx).map(|()| RaceStep::Due)
        })
        .await
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(left) = self.left() else { return Poll::Pending };
            if left.is_zero() {
                return Poll::Ready(());
            }
            let due = clock::now() + left;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// The time until the next one is due; `None`: none is, until something else happens, which
    /// this is polled for.
    fn left(&self) -> Option<Duration> {
        if self.is_closed || self.launched >= self.race.rules.max_hedges {
            return None;
        }
        let is_running = self.runners.iter().any(|runner| runner.number == self.launched);
        let is_ours = is_running && !self.latest.is_asking();
        if is_ours || self.race.call.starved().is_starving {
            return None;
        }
        Some(self.race.delay.saturating_sub(self.latest.asked(self.race.call)?))
    }

    /// Keeps what has failed, if it is better than what is kept.
    fn keep(&mut self, outcome: Outcome) {
        self.is_pushed_back |=
            asks_for_rest(self.race.call, &outcome, self.race.next.scope().upstream());
        self.is_untouched &=
            outcome.as_ref().is_err_and(|error| error.reached_upstream() == Reached::No);
        let worse = match self.best.take() {
            Some(best) if rank(&best) > rank(&outcome) => {
                self.best = Some(best);
                Some(outcome)
            }
            best => {
                self.best = Some(outcome);
                best
            }
        };
        if let Some(worse) = worse {
            self.race.call.discard(worse);
        }
    }

    /// The others are over before the winner goes out.
    fn win(&mut self, number: u32, outcome: &Outcome) {
        let Race { rules, call, .. } = self.race;
        for Runner { number, branch, run } in self.runners.drain(..) {
            drop(run);
            let event = HedgeEvent::Cancelled { hedge: number };
            call.emit_about(branch.last_attempt(), &rules.name, None, event);
        }
        if number > 0 {
            let event = HedgeEvent::Won { hedge: number };
            call.emit_about(outcome.attempt(), &rules.name, None, event);
        }
        if let Some(failed) = self.best.take() {
            call.discard(failed);
        }
    }

    fn into_best(self) -> Outcome {
        match self.best {
            Some(mut outcome) => {
                if let Ok(response) = &mut outcome {
                    response.give_up();
                }
                outcome
            }
            // Whatever ends is kept.
            None => Err(Error::new(ErrorKind::Internal)),
        }
    }
}

/// Of what has failed: a response is better than an error, the upstream's error than ours.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Ok(_) => 2,
        Err(error) if error.kind().origin() == Origin::Upstream => 1,
        Err(_) => 0,
    }
}
