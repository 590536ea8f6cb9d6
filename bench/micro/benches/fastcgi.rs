//! Only the protocol: bytes in, events out, responses in, bytes out. No socket.

use std::hint::black_box;
use std::io::IoSlice;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastcgi_server::{Connection, Event, Limits, RequestId, Role, client};

/// The parameters that the load generator sends, which are Apache's.
fn parameters() -> Vec<(String, String)> {
    let address = "unix:/none".parse().expect("it is an address");
    load::parameters::of(&load::options::Options::to(address))
}

/// What a web server sends for one request on a keep-alive connection.
fn request(parameters: &[(String, String)], body: usize) -> Bytes {
    let mut web_server = client::Connection::new();
    send(&mut web_server, parameters, body);
    web_server.take_unsent()
}

fn send(web_server: &mut client::Connection, parameters: &[(String, String)], body: usize) {
    let id = RequestId::ONE;
    web_server.begin(id, Role::Responder, true);
    web_server
        .params(id, parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    web_server.params_end(id);
    if body > 0 {
        web_server.stdin(id, Bytes::from(vec![b'.'; body]));
    }
    web_server.stdin_end(id);
}

/// Takes the events of one request and responds to it.
fn serve(connection: &mut Connection, input: &Bytes) -> usize {
    connection.handle_input(input.clone());
    let mut bytes = 0;
    while let Some(event) = connection.poll_event() {
        match event {
            Event::Stdin { data, .. } => bytes += data.len(),
            Event::StdinEnd { id } => {
                connection.stdout_in_place(id, |out| {
                    out.extend_from_slice(
                        b"Status: 200 OK\r\ncontent-type: text/plain\r\n\r\nHello\n",
                    );
                });
                connection.end_request(id, 0);
            }
            other => drop(black_box(other)),
        }
    }
    let mut slices = [IoSlice::new(&[]); 8];
    let count = connection.transmit(&mut slices);
    let unsent = connection.unsent();
    black_box(&slices[..count]);
    connection.transmitted(unsent);
    bytes
}

fn benches(criterion: &mut Criterion) {
    let parameters = parameters();
    let small = request(&parameters, 0);
    let mut group = criterion.benchmark_group("fastcgi");
    group.throughput(Throughput::Bytes(small.len() as u64));
    group.bench_function("a request parsed and answered", |bencher| {
        let mut connection = Connection::new(Limits::default());
        bencher.iter(|| serve(&mut connection, &small));
    });
    group.bench_function("a request parsed byte by byte, and answered", |bencher| {
        let mut connection = Connection::new(Limits::default());
        bencher.iter(|| {
            for at in 0..small.len() - 1 {
                connection.handle_input(small.slice(at..=at));
                while let Some(event) = connection.poll_event() {
                    black_box(event);
                }
            }
            serve(&mut connection, &small.slice(small.len() - 1..))
        });
    });
    group.bench_function("all its parameters walked over", |bencher| {
        let mut connection = Connection::new(Limits::default());
        connection.handle_input(small.clone());
        let Some(Event::Request(request)) = connection.poll_event() else {
            unreachable!("it begins with a request")
        };
        bencher.iter(|| {
            request.params.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        });
    });
    group.bench_function("a request encoded, as a web server does", |bencher| {
        bencher.iter(|| {
            let mut web_server = client::Connection::new();
            send(&mut web_server, &parameters, 0);
            let mut slices = [IoSlice::new(&[]); 8];
            web_server.transmit(&mut slices)
        });
    });
    let large = request(&parameters, 1 << 20);
    group.throughput(Throughput::Bytes(large.len() as u64));
    group.bench_function("a body of 1 MiB parsed", |bencher| {
        let mut connection = Connection::new(Limits::default());
        bencher.iter(|| serve(&mut connection, &large));
    });
    group.finish();
}

criterion_group!(fastcgi, benches);
criterion_main!(fastcgi);
