//! XML as small trees: elements with their text, their children and their type.
//!
//! Prefixes mean nothing here and are dropped; of the attributes only `type` is kept. Document
//! types are refused, so that no entity can be declared.

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};

use crate::limits::{XML_DEPTH_MAX, XML_ELEMENTS_MAX};

/// An element as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Element {
    pub(super) name: String,
    /// The attribute `type`, without its prefix.
    pub(super) kind: Option<String>,
    /// All text directly within, with entities resolved.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

/// Why a body is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a well-formed XML document of moderate size")]
pub(super) struct InvalidXml;

impl Element {
    /// The first child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name; an empty one is none.
    pub(super) fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim()).filter(|text| !text.is_empty())
    }

    /// This element or the first within it of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Element> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }

    /// Reads a document and returns its root.
    pub(super) fn parse(document: &[u8]) -> Result<Element, InvalidXml> {
        let document = std::str::from_utf8(document).map_err(|_| InvalidXml)?;
        let mut reader = Reader::from_str(document.trim_start_matches('\u{feff}'));
        reader.config_mut().check_end_names = true;
        let mut open: Vec<Element> = Vec::new();
        let mut root = None;
        let mut elements = 0;
        loop {
            match reader.read_event().map_err(|_| InvalidXml)? {
                Event::Start(start) => {
                    elements += 1;
                    if root.is_some() || open.len() == XML_DEPTH_MAX || elements > XML_ELEMENTS_MAX
                    {
                        return Err(InvalidXml);
                    }
                    open.push(opened(&start)?);
                }
                Event::Empty(start) => {
                    elements += 1;
                    if elements > XML_ELEMENTS_MAX {
                        return Err(InvalidXml);
                    }
                    close(opened(&start)?, &mut open, &mut root)?;
                }
                Event::End(_) => {
                    let element = open.pop().ok_or(InvalidXml)?;
                    close(element, &mut open, &mut root)?;
                }
                Event::Text(text) => push(&mut open, &text.xml10_content())?,
                Event::CData(text) => push(&mut open, &text.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref().map_err(|_| InvalidXml)? {
                        Some(character) => character,
                        None => match &*reference.xml10_content() {
                            "amp" => '&',
                            "lt" => '<',
                            "gt" => '>',
                            "quot" => '"',
                            "apos" => '\'',
                            _ => return Err(InvalidXml),
                        },
                    };
                    push(&mut open, character.encode_utf8(&mut [0; 4]))?;
                }
                Event::DocType(_) => return Err(InvalidXml),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        if open.is_empty() { root.ok_or(InvalidXml) } else { Err(InvalidXml) }
    }
}

fn opened(start: &BytesStart<'_>) -> Result<Element, InvalidXml> {
    let mut kind = None;
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| InvalidXml)?;
        if attribute.key.local_name().into_inner() == "type" {
            let value = &*attribute.value;
            kind = value.rsplit(':').next().map(str::to_owned);
        }
    }
    Ok(Element { name: start.local_name().into_inner().to_owned(), kind, ..Element::default() })
}

fn push(open: &mut [Element], text: &str) -> Result<(), InvalidXml> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        // White space around the root.
        None if text.trim().is_empty() => {}
        None => return Err(InvalidXml),
    }
    Ok(())
}

fn close(
    element: Element,
    open: &mut [Element],
    root: &mut Option<Element>,
) -> Result<(), InvalidXml> {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None if root.is_none() => *root = Some(element),
        None => return Err(InvalidXml),
    }
    Ok(())
}

/// XML as it is written: tags are ours, texts are escaped.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: String,
}

impl Writer {
    pub(super) fn document() -> Writer {
        Writer { out: "<?xml version=\"1.0\" encoding=\"utf-8\"?>".into() }
    }

    /// Opens an element; `tag` may have attributes, whose values are ours.
    pub(super) fn open(&mut self, tag: &str) -> &mut Writer {
        self.out.extend(["<", tag, ">"]);
        self
    }

    pub(super) fn close(&mut self, name: &str) -> &mut Writer {
        self.out.extend(["</", name, ">"]);
        self
    }

    /// An element with a text and nothing else.
    pub(super) fn element(&mut self, tag: &str, text: impl std::fmt::Display) -> &mut Writer {
        self.open(tag);
        self.out.push_str(&escape(&*text.to_string()));
        self.close(tag.split(' ').next().unwrap_or(tag))
    }

    /// The same, if there is a text.
    pub(super) fn optional(
        &mut self,
        tag: &str,
        text: Option<impl std::fmt::Display>,
    ) -> &mut Writer {
        if let Some(text) = text {
            self.element(tag, text);
        }
        self
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_do_not_matter_and_types_are_kept() {
        let text = r#"<?xml version='1.0'?><a:entry xmlns:a="x"><a:Filter i:type="d:SqlFilter">
            <SqlExpression>a &lt; 1 &amp;&#x20;b</SqlExpression><Empty /></a:Filter></a:entry>"#;
        let root = Element::parse(text.as_bytes()).unwrap();
        let filter = root.find("Filter").unwrap();
        assert_eq!(filter.kind.as_deref(), Some("SqlFilter"));
        assert_eq!(filter.child_text("SqlExpression"), Some("a < 1 & b"));
        assert_eq!(filter.child_text("Empty"), None);
    }

    #[test]
    fn what_is_not_a_moderate_document_is_refused() {
        let deep = "<a>".repeat(XML_DEPTH_MAX + 1);
        let wide = format!("<a>{}</a>", "<b/>".repeat(XML_ELEMENTS_MAX));
        for bad in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "x<a/>",
            "<!DOCTYPE a><a/>",
            "<a>&x;</a>",
            &deep,
            &wide,
        ] {
            assert_eq!(Element::parse(bad.as_bytes()), Err(InvalidXml), "{bad:.40}");
        }
        assert_eq!(Element::parse(&[0xff]), Err(InvalidXml));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::document();
        writer.open("a").element("b x=\"1\"", "<&>\"'").optional("c", None::<&str>).close("a");
        let root = Element::parse(writer.finish().as_bytes()).unwrap();
        assert_eq!(root.child_text("b"), Some("<&>\"'"));
        assert!(root.child("c").is_none());
    }
}
