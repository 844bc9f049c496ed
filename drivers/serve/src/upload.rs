//! In: a `multipart/form-data` body as it comes. Out: what its parts are, as JSON. Nothing of their content is kept but a
//! short value, so a body of any size takes the same memory.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use vestibule::decode::media::MediaType;
use vestibule::decode::multipart::{Item, Multipart};
use vestibule::{Limit, Limits, Rule, Violation};

/// A value that is no file and no longer than this is shown.
const SHOWN: usize = 200;

/// A body that is being read.
pub(crate) struct Upload {
    reader: Multipart<Vec<u8>>,
    parts: Vec<Value>,
    open: Option<Open>,
}

/// A part that has not ended.
struct Open {
    told: Map<String, Value>,
    is_file: bool,
    size: u64,
    sum: Context,
    begin: Vec<u8>,
}

impl Upload {
    /// For a body of that type; what is no `multipart/form-data` is refused with 415.
    pub(crate) fn new(content_type: Option<&[u8]>, limits: &Limits) -> Result<Upload, Violation> {
        let none = Violation::new(Rule::MediaTypeUnsupported, 0);
        let media = MediaType::parse(content_type.ok_or(none)?)?;
        // A header, and the names in it once more if they hold escapes.
        let scratch = vec![0; 2 * limits.get(Limit::PartHeadBytes) as usize];
        Ok(Upload { reader: Multipart::new(&media, scratch)?, parts: Vec::new(), open: None })
    }

    /// Reads the next piece of the body.
    pub(crate) fn feed(&mut self, mut piece: &[u8], limits: &Limits) -> Result<(), Violation> {
        while let Some(item) = self.reader.next(&mut piece, limits)? {
            match item {
                Item::Part(part) => {
                    let mut told = Map::new();
                    told.insert("name".into(), part.name.into());
                    told.insert("filename".into(), part.filename.into());
                    told.insert("content_type".into(), part.content_type.map(String::from_utf8_lossy).into());
                    let is_file = part.filename.is_some();
                    self.open = Some(Open { told, is_file, size: 0, sum: Context::new(&SHA256), begin: Vec::new() });
                }
                Item::Data(bytes) => {
                    if let Some(open) = &mut self.open {
                        open.data(bytes);
                    }
                }
                Item::PartEnd => self.parts.extend(self.open.take().map(Open::end)),
            }
        }
        Ok(())
    }

    /// The parts, once the body is complete.
    pub(crate) fn finish(mut self) -> Result<Value, Violation> {
        self.reader.finish()?;
        Ok(self.parts.into())
    }
}

impl Open {
    fn data(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sum.update(bytes);
        let room = (SHOWN + 1).saturating_sub(self.begin.len());
        self.begin.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn end(self) -> Value {
        let Open { mut told, is_file, size, sum, begin } = self;
        told.insert("bytes".into(), size.into());
        let sum: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        told.insert("sha256".into(), sum.into());
        if let (false, 0..=SHOWN, Ok(text)) = (is_file, begin.len(), String::from_utf8(begin.clone())) {
            told.insert("text".into(), text.into());
        }
        told.into()
    }
}

/// A rule that was broken.
pub(crate) fn tell(violation: &Violation) -> Value {
    json!({
        "rule": violation.name(),
        "text": violation.text(),
        "section": violation.section(),
        "at": violation.at,
        "limit": violation.limit().map(|limit| json!({ "name": limit.name(), "value": violation.value })),
    })
}
