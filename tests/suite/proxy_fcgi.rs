//! mod_proxy_fcgi responds with an error if the program closes a connection before it has read the empty STDIN record.
//! Under load, no client may see one.

use end_to_end::fixtures::App;
use end_to_end::http_client::{Request, Upload};

use crate::cases::{at_once, same};
use crate::servers::start;

#[test]
fn no_request_fails_under_load() {
    for name in ["mod_proxy_fcgi, one request per connection", "mod_proxy_fcgi, keep-alive"] {
        let running = start(name, App::TestApp);
        let result = at_once(&running, 16, |client| {
            for number in 0..150 {
                let request = match number % 3 {
                    0 => Request::get("/healthz"),
                    1 => Request::post("/unread", Upload::Counted(client * 1000)),
                    _ => Request::post("/no-such-page", Upload::Counted(10)),
                };
                let response = request.below(running.base).send(running.address);
                let response = response.map_err(|error| format!("request {number}: {error}"))?;
                same("status", response.status, if number % 3 == 2 { 404 } else { 200 })?;
            }
            Ok(())
        });
        assert_eq!(result, Ok(()), "{name}");
        assert!(!running.output().contains("Error dispatching request"), "{name}");
        assert_eq!(running.stop(), Ok(()), "{name}");
    }
}
