//! XML bodies as small trees: elements, text, nothing else.
//!
//! Attributes, comments and processing instructions mean nothing to the service and are passed
//! over; document types are refused, so that no entity can be declared.

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;
use thiserror::Error;

use crate::limits::MAX_XML_DEPTH;

/// An element with its text and its children.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    /// All text directly within, with entities resolved.
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

/// The body is no document that this service reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the body is not a well-formed XML document")]
pub(crate) struct InvalidXml;

impl Element {
    /// An element with text.
    pub(crate) fn text(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), text: text.into(), children: Vec::new() }
    }

    /// An element with children.
    pub(crate) fn of(name: &str, children: Vec<Element>) -> Self {
        Self { name: name.to_owned(), text: String::new(), children }
    }

    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// Reads a document and returns its root.
    ///
    /// # Errors
    /// [`InvalidXml`].
    pub(crate) fn parse(document: &[u8]) -> Result<Self, InvalidXml> {
        let document = std::str::from_utf8(document).map_err(|_| InvalidXml)?;
        let mut reader = Reader::from_str(document.trim_start_matches('\u{feff}'));
        reader.config_mut().check_end_names = true;
        let mut open: Vec<Element> = Vec::new();
        let mut root = None;
        loop {
            match reader.read_event().map_err(|_| InvalidXml)? {
                Event::Start(start) => {
                    if root.is_some() || open.len() == MAX_XML_DEPTH {
                        return Err(InvalidXml);
                    }
                    open.push(Element::text(start.local_name().into_inner(), ""));
                }
                Event::Empty(start) => {
                    let element = Element::text(start.local_name().into_inner(), "");
                    close(element, &mut open, &mut root)?;
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

    /// Appends this element as XML.
    pub(crate) fn write(&self, out: &mut String) {
        if self.text.is_empty() && self.children.is_empty() {
            out.extend(["<", &self.name, " />"]);
            return;
        }
        out.extend(["<", &self.name, ">"]);
        escape_into(&self.text, out);
        for child in &self.children {
            child.write(out);
        }
        out.extend(["</", &self.name, ">"]);
    }

    /// The document with this root.
    pub(crate) fn document(&self) -> String {
        let mut out = declaration();
        self.write(&mut out);
        out
    }
}

/// The line that every answer begins with.
pub(crate) fn declaration() -> String {
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>".to_owned()
}

/// Appends `text` so that a reader gets it back unchanged.
pub(crate) fn escape_into(text: &str, out: &mut String) {
    // A reader takes a bare carriage return for the end of a line and makes a line feed of it.
    for (at, piece) in text.split('\r').enumerate() {
        if at > 0 {
            out.push_str("&#xD;");
        }
        out.push_str(&escape(piece));
    }
}

fn close(
    mut element: Element,
    open: &mut [Element],
    root: &mut Option<Element>,
) -> Result<(), InvalidXml> {
    if !element.children.is_empty() {
        // Between children there is only indentation.
        element.text.clear();
    }
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None if root.is_some() => return Err(InvalidXml),
        None => *root = Some(element),
    }
    Ok(())
}

fn push(open: &mut [Element], text: &str) -> Result<(), InvalidXml> {
    match open.last_mut() {
        Some(element) if text.chars().all(is_xml_char) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        Some(_) | None => return Err(InvalidXml),
    }
    Ok(())
}

/// The characters that XML 1.0 has (<https://www.w3.org/TR/xml/#charsets>).
fn is_xml_char(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(document: &str) -> Result<String, InvalidXml> {
        Element::parse(document.as_bytes()).map(|root| root.text)
    }

    #[test]
    fn text_is_what_the_client_wrote() {
        for (document, expected) in [
            ("<a>x &amp; &lt;y&gt; &#65;&#x42;&quot;&apos;</a>", "x & <y> AB\"'"),
            ("\u{feff}<?xml version='1.0'?>\n<!-- c --><a>x<![CDATA[<&>]]></a>\n", "x<&>"),
            ("<a> kept </a>", " kept "),
            ("<a>line\r\nline&#13;</a>", "line\nline\r"),
            ("<a/>", ""),
        ] {
            assert_eq!(text_of(document).as_deref(), Ok(expected), "{document}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = "<a>".repeat(17) + &"</a>".repeat(17);
        for document in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "<a>&unknown;</a>",
            "<a>&#1;</a>",
            "<a>\u{1}</a>",
            "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
            &deep,
        ] {
            assert_eq!(text_of(document), Err(InvalidXml), "{document}");
        }
        assert_eq!(Element::parse(b"<a>\xff</a>"), Err(InvalidXml));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(text in "[\t\n\r -\u{fffd}\u{10000}-\u{10ffff}]*") {
            let written = Element::text("a", text.clone()).document();
            prop_assert_eq!(text_of(&written), Ok(text));
        }

        #[test]
        fn nothing_makes_the_reader_panic(document in "[<>&;/a!\\[\\]#x0-9 \"?-]{0,40}") {
            let _ = text_of(&document);
        }
    }
}
