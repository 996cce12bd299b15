//! What a large file costs the gateway's process: its buffers.

use std::io::Write;

use aoai_gateway::simulator::Knobs;

use crate::objects::BOUNDARY;
use crate::support::process::Estate;

const MIB: usize = 1 << 20;

#[test]
fn a_large_file_costs_no_more_memory_than_its_buffers() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "[server]\nworkers = 1\n");
    let key = estate.add_key("team");
    let gateway = estate.start();
    let page = vec![b'x'; MIB];
    let send = |mebibytes: usize| {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = head.len() + mebibytes * MIB + tail.len();
        let mut bytes = Vec::new();
        write!(
            bytes,
            "POST /v1/files HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-type: multipart/form-data; \
             boundary={BOUNDARY}\r\ncontent-length: {length}\r\n\r\n{head}"
        )
        .unwrap();
        let mut client = gateway.client();
        client.send(&bytes);
        for _ in 0..mebibytes {
            client.send(&page);
        }
        let made = client.send(tail).answer().expect(200).json();
        assert_eq!(made["bytes"].as_u64(), Some((mebibytes * MIB) as u64));
        made["id"].as_str().unwrap().to_owned()
    };
    send(2);
    let before = gateway.memory("VmHWM");
    let file = send(200);
    let line = format!("authorization: Bearer {key}\r\n");
    let content = gateway.get(&format!("/v1/files/{file}/content"), &line).expect(200);
    assert_eq!(content.body.len(), 200 * MIB);
    let grown = gateway.memory("VmHWM").saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "200 MiB there and back took {grown} bytes more");
    gateway.stop();
}
