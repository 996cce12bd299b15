use aoai_gateway::domain::demand::Operation;
use aoai_gateway::domain::ids::*;
use aoai_gateway::domain::money::Cost;
use aoai_gateway::domain::time::wall_now;
use aoai_gateway::domain::usage::*;
use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::Store;
use aoai_gateway::storage::ledger::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}
fn main() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<KeyId> = (0..3).map(|_| KeyId::generate()).collect();
    let model: ModelName = "gpt-4o-mini".into();
    let (res, dep): (ResourceName, DeploymentName) = ("eastus2".into(), "gpt-4o-mini".into());
    for size in [1usize, 10, 30, 100, 1000] {
        let store = Store::open(&dir.path().join(format!("{size}.db")), Durability::Process).unwrap();
        let mut j = store.journal().unwrap();
        let total = if size == 1 { 20_000 } else { 200_000 };
        let (mut wall, mut used, mut ck) = (Duration::ZERO, 0.0, Duration::ZERO);
        let mut done = 0;
        while done < total {
            let batch: Vec<LedgerEntry> = (0..size)
                .map(|i| {
                    let usage =
                        Usage { input_tokens: 100, cached_input_tokens: 0, output_tokens: 50, reasoning_tokens: 0 };
                    let id = RequestId::generate();
                    LedgerEntry::Settled(
                        Arc::new(Intent {
                            id,
                            request_id: id.to_string(),
                            key_id: keys[(done + i) % 3],
                            user_id: None,
                            operation: Operation::ChatCompletions,
                            model: model.clone(),
                            stream: false,
                            started_at: wall_now(),
                            input_tokens: 10,
                        }),
                        Box::new(Settlement {
                            state: RequestState::Settled,
                            status: 200,
                            usage,
                            estimated: false,
                            cost: Cost(3),
                            ttfb: Some(Duration::from_millis(3)),
                            duration: Duration::from_millis(5),
                            attempts: smallvec::smallvec![AttemptRecord {
                                resource: res.clone(),
                                deployment: dep.clone(),
                                status: Some(200),
                                reason: "served",
                                duration: Duration::from_millis(4),
                                usage,
                                charge: Charge::Exact,
                                upstream_id: Some("0f8fad5b-d9cb-469f-a165-70867728950e".into())
                            }],
                        }),
                    )
                })
                .collect();
            let batches = [batch];
            let c0 = cpu();
            let t = Instant::now();
            j.append(&batches).unwrap();
            wall += t.elapsed();
            used += cpu() - c0;
            done += size;
            if done % 16000 < size {
                let t = Instant::now();
                j.checkpoint().unwrap();
                ck += t.elapsed();
            }
        }
        println!(
            "group {size}: {:.2} us wall/row, {:.2} us cpu/row, checkpoints {:.2} us/row",
            wall.as_secs_f64() * 1e6 / done as f64,
            used / done as f64,
            ck.as_secs_f64() * 1e6 / done as f64
        );
    }
}
