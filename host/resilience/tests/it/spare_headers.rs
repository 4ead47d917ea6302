//! The memory of headers that nobody wants is used again.

use fusebox_resilience::testing;
use fusebox_resilience::{
    Observers, Pipeline, Random, RequestBody, ResponseBody, Scope, SpareHeaders, Worker,
};

use crate::support::{Answers, fallback, response, retry};

#[tokio::test(start_paused = true)]
async fn a_response_that_a_policy_puts_aside_leaves_its_header_map() {
    for (policy, left) in [
        (retry("delay = \"0ms\"\nmax_retries = 2"), 2),
        (fallback("respond = { status = 200 }"), 1),
    ] {
        let spare = SpareHeaders::default();
        let worker = Worker::new(Observers::default(), Random::with_seed(1))
            .with_spare_headers(spare.clone());
        let get = http::Request::get("http://service-b/");
        let call = testing::call_on("1", get, RequestBody::empty(), worker.into());
        let upstream = Answers(|_| Ok(response(503, &[("server", "b")], ResponseBody::empty())));
        let name = policy.kind();
        let outcome = Pipeline::new([policy]).execute(&call, &Scope::new(&upstream)).await;
        assert!(outcome.is_ok(), "{name}");
        assert_eq!(spare.count(), [left, 0], "{name}");
        let map = spare.take();
        assert!(map.is_empty() && map.capacity() > 0, "{name}");
    }
}
