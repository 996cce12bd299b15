//! Figures that say something of the gateway only where the machine lets it work.

/// Gives `measure` three tries, and fails with what each of them said. A defect shows in every try; a busy neighbour, who
/// takes the processor away for a moment, does not. What has to hold at any load is asserted inside `measure`.
#[track_caller]
pub fn once_in_three(measure: impl Fn() -> Result<(), String>) {
    let mut said = Vec::new();
    for _ in 0..3 {
        match measure() {
            Ok(()) => return,
            Err(why) => said.push(why),
        }
    }
    panic!("each time:\n{}", said.join("\n"));
}
