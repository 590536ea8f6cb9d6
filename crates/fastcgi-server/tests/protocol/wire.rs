//! Bytes as they are on the wire, written and read without the crate's encoders.

use fastcgi_server::RequestId;

pub(crate) const BEGIN: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const END: u8 = 3;
pub(crate) const PARAMS: u8 = 4;
pub(crate) const STDIN: u8 = 5;
pub(crate) const STDOUT: u8 = 6;
pub(crate) const STDERR: u8 = 7;
pub(crate) const DATA: u8 = 8;
pub(crate) const GET_VALUES: u8 = 9;
pub(crate) const GET_VALUES_RESULT: u8 = 10;
pub(crate) const UNKNOWN_TYPE: u8 = 11;

pub(crate) const RESPONDER: u16 = 1;
pub(crate) const AUTHORIZER: u16 = 2;
pub(crate) const FILTER: u16 = 3;

pub(crate) const CLOSE: u8 = 0;
pub(crate) const KEEP: u8 = 1;

pub(crate) fn id(number: u16) -> RequestId {
    RequestId::new(number).unwrap()
}

/// A conversation's bytes, record after record.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    pub(crate) bytes: Vec<u8>,
    /// Contents are padded to a multiple of this, as nginx does with 8. 0 or 1: not at all.
    align: usize,
}

impl Wire {
    pub(crate) fn new() -> Wire {
        Wire::default()
    }

    pub(crate) fn padded(align: usize) -> Wire {
        Wire { bytes: Vec::new(), align }
    }

    /// A record whose header may contain anything.
    pub(crate) fn header(
        mut self,
        version: u8,
        kind: u8,
        id: u16,
        length: u16,
        padding: u8,
    ) -> Wire {
        let (id, length) = (id.to_be_bytes(), length.to_be_bytes());
        self.bytes.extend([version, kind, id[0], id[1], length[0], length[1], padding, 0]);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Wire {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn record(self, kind: u8, id: u16, content: &[u8]) -> Wire {
        let padding = match self.align {
            0 | 1 => 0,
            align => (align - content.len() % align) % align,
        };
        self.record_with_padding(kind, id, content, padding as u8)
    }

    pub(crate) fn record_with_padding(
        self,
        kind: u8,
        id: u16,
        content: &[u8],
        padding: u8,
    ) -> Wire {
        self.header(1, kind, id, content.len().try_into().unwrap(), padding)
            .raw(content)
            .raw(&vec![0xee; usize::from(padding)])
    }

    pub(crate) fn begin(self, id: u16, role: u16, flags: u8) -> Wire {
        let [role_1, role_0] = role.to_be_bytes();
        self.record(BEGIN, id, &[role_1, role_0, flags, 0, 0, 0, 0, 0])
    }

    /// The pairs in one record, and the record that ends the stream.
    pub(crate) fn params(self, id: u16, pairs: &[(&str, &str)]) -> Wire {
        self.record(PARAMS, id, &block(pairs)).record(PARAMS, id, &[])
    }

    /// The body in records of at most `size` bytes, and the record that ends the stream.
    pub(crate) fn stdin(self, id: u16, body: &[u8], size: usize) -> Wire {
        self.stream(STDIN, id, body, size)
    }

    pub(crate) fn stream(mut self, kind: u8, id: u16, content: &[u8], size: usize) -> Wire {
        for piece in content.chunks(size) {
            self = self.record(kind, id, piece);
        }
        self.record(kind, id, &[])
    }

    /// A small, complete request.
    pub(crate) fn get(self, id: u16, flags: u8) -> Wire {
        self.begin(id, RESPONDER, flags).params(id, &[("REQUEST_URI", "/")]).stdin(id, b"", 1)
    }
}

/// Pairs in the shortest form.
pub(crate) fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in pairs {
        for length in [name.len(), value.len()] {
            match u8::try_from(length) {
                Ok(short) if short < 128 => block.push(short),
                _ => block.extend((0x8000_0000 | length as u32).to_be_bytes()),
            }
        }
        block.extend_from_slice(name.as_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// Each record as a line: `STDOUT 1 hello`, `END_REQUEST 1 app 0 protocol 0`.
pub(crate) fn read_records(mut bytes: &[u8]) -> Vec<String> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0], 1, "version, after {records:?}");
        let kind = bytes[1];
        let id = u16::from_be_bytes([bytes[2], bytes[3]]);
        let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let padding = usize::from(bytes[6]);
        let content = &bytes[8..8 + length];
        bytes = &bytes[8 + length + padding..];
        records.push(match kind {
            END => format!(
                "END_REQUEST {id} app {} protocol {}",
                u32::from_be_bytes(content[..4].try_into().unwrap()),
                content[4]
            ),
            STDOUT => format!("STDOUT {id} {}", text(content)),
            STDERR => format!("STDERR {id} {}", text(content)),
            GET_VALUES_RESULT => format!("GET_VALUES_RESULT {id} {}", text(content)),
            UNKNOWN_TYPE => {
                assert_eq!(length, 8);
                format!("UNKNOWN_TYPE {id} {}", content[0])
            }
            other => format!("type {other} {id} {}", text(content)),
        });
    }
    records
}

/// Short content verbatim, long content by its length.
pub(crate) fn text(content: &[u8]) -> String {
    match content.len() {
        0 => "end".to_owned(),
        1..=120 => content.escape_ascii().to_string(),
        length => format!("{length} bytes"),
    }
}
