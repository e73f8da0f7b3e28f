//! The parts of a multipart body (RFC 2046, section 5.1), read as they come: never is more of it held than one read and
//! one part's head. (The parser that web frameworks share reads on as long as bytes come.)

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::{self, Finder};

use crate::problem::Problem;
use crate::upload::Source;

/// RFC 2046, section 5.1.1.
const BOUNDARY_LENGTH_MAX: usize = 70;

/// What a part may say before its content.
const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 16;

/// A body that is coming, part by part.
pub(super) struct Parts<S> {
    source: S,
    /// A line break, two dashes and the boundary.
    delimiter: Finder<'static>,
    buffer: BytesMut,
    place: Place,
}

/// What the buffer begins with.
enum Place {
    /// A part's content, or what comes before the first part.
    Content,
    /// What follows a delimiter: a part's head or the end.
    Delimited,
    /// What comes after the last part.
    Epilogue,
    /// Nothing, where something should be.
    Broken,
}

impl<S: Source> Parts<S> {
    pub(super) fn new(source: S, boundary: &Boundary) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{}", boundary.0)).into_owned();
        // The first delimiter needs no line break before it.
        Self { source, delimiter, buffer: BytesMut::from("\r\n"), place: Place::Content }
    }

    /// The head of the next part; what is left of the present one is passed over. Nothing after the last.
    pub(super) async fn next_head(&mut self) -> Result<Option<HeaderMap>, Problem> {
        while self.next().await?.is_some() {}
        while matches!(self.place, Place::Delimited) && self.buffer.len() < 2 {
            self.read_on().await?;
        }
        if matches!(self.place, Place::Epilogue) || self.buffer.starts_with(b"--") {
            self.place = Place::Epilogue;
            return Ok(None);
        }
        // The line break that ends the delimiter's line is the first of the two if the part has no headers.
        let end = loop {
            match memmem::find(&self.buffer, b"\r\n\r\n") {
                Some(at) if at <= HEAD_BYTES_MAX => break at + 4,
                None if self.buffer.len() <= HEAD_BYTES_MAX => self.read_on().await?,
                Some(_) | None => return Err(Problem::malformed("The head of a part is longer than 8 KiB.")),
            }
        };
        let head = self.buffer.split_to(end);
        self.place = Place::Content;
        let line_end = head.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(0);
        let fields = head[line_end..].strip_prefix(b"\r\n").ok_or_else(bad_head)?;
        parse(fields).ok_or_else(bad_head).map(Some)
    }

    async fn read_on(&mut self) -> Result<(), Problem> {
        let too_short = || {
            Problem::malformed(
                "The body ends before its last boundary. What is in this list with a slip was taken; send the rest again.",
            )
        };
        match self.source.next().await.and_then(|data| data.ok_or_else(too_short)) {
            Ok(data) => self.buffer.extend_from_slice(&data),
            Err(problem) => {
                self.place = Place::Broken;
                return Err(problem);
            }
        }
        Ok(())
    }

    /// The body has broken off: nothing more comes.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.place, Place::Broken)
    }

    /// Gives the body back, with whatever has not been read of it.
    pub(super) fn into_source(self) -> S {
        self.source
    }
}

/// The content of the present part.
impl<S: Source> Source for Parts<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let delimiter_bytes = self.delimiter.needle().len();
        while matches!(self.place, Place::Content) {
            if let Some(at) = self.delimiter.find(&self.buffer) {
                let content = self.buffer.split_to(at).freeze();
                self.buffer.advance(delimiter_bytes);
                self.place = Place::Delimited;
                return Ok(Some(content).filter(|content| !content.is_empty()));
            }
            // The end may be the beginning of a delimiter.
            let content = (self.buffer.len() + 1).saturating_sub(delimiter_bytes);
            if content > 0 {
                return Ok(Some(self.buffer.split_to(content).freeze()));
            }
            self.read_on().await?;
        }
        Ok(None)
    }
}

/// What stands between parts.
pub(super) struct Boundary(String);

impl Boundary {
    /// By a request's content type.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        content_type.and_then(Self::parse).ok_or_else(not_multipart)
    }

    fn parse(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        kind.trim().get(..10).filter(|kind| kind.eq_ignore_ascii_case("multipart/"))?;
        let mut parameters = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
        let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        (1..=BOUNDARY_LENGTH_MAX).contains(&value.len()).then(|| Self(value.to_owned()))
    }
}

fn parse(fields: &[u8]) -> Option<HeaderMap> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let httparse::Status::Complete((_, headers)) = httparse::parse_headers(fields, &mut headers).ok()? else {
        return None;
    };
    let field = |header: &httparse::Header<'_>| {
        Some((HeaderName::from_bytes(header.name.as_bytes()).ok()?, HeaderValue::from_bytes(header.value).ok()?))
    };
    headers.iter().map(field).collect()
}

fn bad_head() -> Problem {
    Problem::malformed("The head of a part is no list of headers. Nothing from it on was read.")
}

fn not_multipart() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Several records come as a multipart body",
        "Give its boundary in the Content-Type, as in: multipart/form-data; boundary=WORD. One record by itself goes to \
         /v1/records.",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::problem::json_text;

    /// A body that comes in these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Source for Pieces {
        async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
            Ok(self.0.pop_front())
        }
    }

    fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Parts<Pieces> {
        let pieces = Pieces(pieces.into_iter().map(Bytes::copy_from_slice).collect());
        Parts::new(pieces, &Boundary("b".to_owned()))
    }

    /// The `name` header and the content of each part, and what ended them if not the last boundary.
    fn read(mut parts: Parts<Pieces>) -> (Vec<(String, Vec<u8>)>, Option<String>) {
        let mut found = Vec::new();
        let read = async {
            while let Some(head) = parts.next_head().await? {
                found
                    .push((head.get("name").map(|name| name.to_str().unwrap().to_owned()).unwrap_or_default(), vec![]));
                while let Some(content) = parts.next().await? {
                    assert!(!content.is_empty());
                    found.last_mut().unwrap().1.extend_from_slice(&content);
                }
            }
            Ok::<(), Problem>(())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ended = runtime.block_on(read);
        (found, ended.err().map(|problem| json_text(&problem.details())))
    }

    const THREE: &[u8] = b"before\r\n--b \t\r\nname: one\r\nX: y\r\n\r\n\r\n-- \r\n--\r\n--b\r\n\r\nno head\r\n--b\r\nName: three\r\n\r\n\r\n--b--after";

    #[test]
    fn parts_are_found_wherever_the_body_was_cut() {
        let expected = [("one", &b"\r\n-- \r\n--"[..]), ("", b"no head"), ("three", b"")];
        let expected: Vec<_> = expected.map(|(name, content)| (name.to_owned(), content.to_vec())).into();
        for cut in 0..THREE.len() {
            assert_eq!(read(in_pieces([&THREE[..cut], &THREE[cut..]])), (expected.clone(), None), "cut at {cut}");
        }
        assert_eq!(read(in_pieces(THREE.chunks(1))), (expected, None));
    }

    #[test]
    fn a_body_that_ends_too_soon_is_no_end() {
        let end = THREE.len() - "--after".len();
        for cut in 0..=end {
            let (found, ended) = read(in_pieces([&THREE[..cut]]));
            assert!(ended.is_some_and(|ended| ended.contains("ends before its last boundary")), "cut at {cut}");
            assert!(found.len() <= 3);
        }
    }

    #[test]
    fn what_is_not_read_of_a_part_is_passed_over() {
        let mut parts = in_pieces([THREE]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let heads = runtime.block_on(async {
            let mut heads = 0;
            while parts.next_head().await.ok().flatten().is_some() {
                heads += 1;
            }
            heads
        });
        assert_eq!(heads, 3);
    }

    #[test]
    fn a_head_is_a_short_list_of_headers() {
        let many: String = (0..=HEADERS_MAX).map(|number| format!("h{number}: x\r\n")).collect();
        let long = format!("name: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
        for (what, head) in [("no list", "no colon\r\n"), ("too many", &many), ("too long", &long)] {
            let body = format!("--b\r\n{head}\r\ncontent\r\n--b--");
            let (found, ended) = read(in_pieces(body.as_bytes().chunks(1_000)));
            assert!(found.is_empty() && ended.is_some(), "{what}");
        }
        // An endless one is given up before it is held.
        let (found, ended) = read(in_pieces([&b"--b\r\n"[..]].into_iter().chain([&[b'x'; 1_000][..]; 100])));
        assert!(found.is_empty() && ended.is_some_and(|ended| ended.contains("longer than 8 KiB")));
    }

    #[test]
    fn the_boundary_is_read_as_it_may_be_written() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Mixed;charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/mixed", None),
            ("multipart/mixed; boundary=", None),
            ("multi; boundary=abc", None),
            ("application/json; boundary=abc", None),
            (&format!("multipart/mixed; boundary={}", "x".repeat(71)), None),
        ] {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap())].into_iter().collect();
            let boundary = Boundary::of(&headers).ok().map(|boundary| boundary.0);
            assert_eq!(boundary.as_deref(), expected, "{content_type}");
        }
        assert!(Boundary::of(&HeaderMap::new()).is_err());
    }
}
