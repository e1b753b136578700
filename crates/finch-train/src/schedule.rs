//! The learning rate of each step.

use finch_core::training::{Schedule, ScheduleKind};

/// The learning rate of step `step` (from 0) of `steps`.
///
/// It rises linearly over the first `ceil(warmup * steps)` steps, and the first step is a step: (k + 1) / n, not
/// k / n. Then it falls as its kind says, to reach 0 one step after the last.
pub fn rate(schedule: Schedule, peak: f64, step: u64, steps: u64) -> f64 {
    let warmup = (schedule.warmup * steps as f64).ceil() as u64;
    if step < warmup {
        return peak * (step + 1) as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
    match schedule.kind {
        ScheduleKind::Wsd => {
            let falls = (schedule.decays() * steps as f64).ceil().max(1.0);
            peak * ((steps - step) as f64 / falls).min(1.0)
        }
        ScheduleKind::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        ScheduleKind::Linear => peak * (1.0 - progress),
        ScheduleKind::Constant => peak,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: ScheduleKind, warmup: f64) -> Vec<f64> {
        (0..10).map(|step| rate(Schedule { kind, warmup, decay: None }, 1.0, step, 10)).collect()
    }

    #[test]
    fn warm_up_rises_to_the_peak_and_no_step_is_lost() {
        assert_eq!(rates(ScheduleKind::Constant, 0.35)[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn cosine_falls_by_its_formula() {
        let rates = rates(ScheduleKind::Cosine, 0.2);
        for (k, rate) in rates[2..].iter().enumerate() {
            let expected = (1.0 + (std::f64::consts::PI * k as f64 / 8.0).cos()) / 2.0;
            assert!((rate - expected).abs() < 1e-12);
        }
        assert!(rates.windows(2).skip(2).all(|pair| pair[0] > pair[1]) && rates[9] > 0.0);
    }

    #[test]
    fn linear_ends_one_step_before_zero() {
        assert!((rates(ScheduleKind::Linear, 0.0)[9] - 0.1).abs() < 1e-12);
    }

    #[test]
    fn wsd_stays_at_the_peak_and_falls_in_a_line_at_the_end() {
        let schedule = Schedule { kind: ScheduleKind::Wsd, warmup: 0.2, decay: Some(0.4) };
        let rates: Vec<f64> = (0..10).map(|step| rate(schedule, 1.0, step, 10)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn a_schedule_of_warm_up_alone_is_one() {
        assert_eq!(rates(ScheduleKind::Cosine, 1.0)[9], 1.0);
    }
}
