//! What an idle connection costs: `cargo run --release -p vestibule-std --example idle -- 5000`.

use vestibule_std::Std;

fn main() {
    let n = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2_000);
    vestibule_suite::crowd::measure_idle::<Std>(|builder| builder, n);
}
