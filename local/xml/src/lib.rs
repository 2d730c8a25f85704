//! XML bodies as small trees: elements with their text, their children and their type.
//!
//! What the service APIs over XML need and no more. Prefixes mean nothing and are dropped; of the
//! attributes only `type` is kept; comments and processing instructions are passed over. Document
//! types are refused, so that no entity can be declared.

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};

/// How large a document may be, beside its bytes, which whoever received it has limited.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Elements within each other.
    pub depth: usize,
    /// Elements in total.
    pub elements: usize,
}

/// An element as it was read, or is to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Without its prefix.
    pub name: String,
    /// The attribute `type` without its prefix. Not written.
    pub kind: Option<String>,
    /// All text directly within, with entities resolved; empty beside children.
    pub text: String,
    /// In the order of the document.
    pub children: Vec<Element>,
}

/// The body is no document, or a larger one than is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a well-formed XML document of moderate size")]
pub struct InvalidXml;

/// A text has a character that XML cannot carry, not even by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a text has the character U+{:04X}, which XML cannot carry", u32::from(*.0))]
pub struct Unwritable(pub char);

impl Element {
    /// An element with text.
    #[must_use]
    pub fn text(name: &str, text: impl Into<String>) -> Element {
        Element { name: name.to_owned(), text: text.into(), ..Element::default() }
    }

    /// An element with children.
    #[must_use]
    pub fn of(name: &str, children: Vec<Element>) -> Element {
        Element { name: name.to_owned(), children, ..Element::default() }
    }

    /// The first child of this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name, as it is.
    #[must_use]
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// The same without white space around it; an empty one is none.
    #[must_use]
    pub fn child_value(&self, name: &str) -> Option<&str> {
        self.child_text(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// This element or the first within it of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Element> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`InvalidXml`].
    pub fn parse(document: &[u8], bounds: Bounds) -> Result<Element, InvalidXml> {
        let document = std::str::from_utf8(document).map_err(|_| InvalidXml)?;
        let mut reader = Reader::from_str(document.trim_start_matches('\u{feff}'));
        reader.config_mut().check_end_names = true;
        let mut open: Vec<Element> = Vec::new();
        let (mut root, mut elements) = (None, 0);
        loop {
            match reader.read_event().map_err(|_| InvalidXml)? {
                Event::Start(start) => {
                    elements += 1;
                    let beyond = open.len() == bounds.depth || elements > bounds.elements;
                    if root.is_some() || beyond {
                        return Err(InvalidXml);
                    }
                    open.push(opened(&start)?);
                }
                Event::Empty(start) => {
                    elements += 1;
                    if elements > bounds.elements {
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

    /// Appends this element as XML.
    pub fn write(&self, out: &mut String) {
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
    #[must_use]
    pub fn document(&self) -> String {
        let mut out = DECLARATION.to_owned();
        self.write(&mut out);
        out
    }
}

/// The line that every answer begins with.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";

/// Appends `text` so that a reader gets it back unchanged, if XML can carry it at all, see
/// [`check`].
pub fn escape_into(text: &str, out: &mut String) {
    // A reader takes a bare carriage return for the end of a line and makes a line feed of it.
    for (at, piece) in text.split('\r').enumerate() {
        if at > 0 {
            out.push_str("&#xD;");
        }
        out.push_str(&escape(piece));
    }
}

/// Whether XML can carry a text.
///
/// # Errors
/// [`Unwritable`] names the first character that it cannot.
pub fn check(text: &str) -> Result<(), Unwritable> {
    text.chars().find(|character| !is_char(*character)).map_or(Ok(()), |one| Err(Unwritable(one)))
}

/// Whether XML 1.0 has a character (<https://www.w3.org/TR/xml/#charsets>).
#[must_use]
pub fn is_char(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn opened(start: &BytesStart<'_>) -> Result<Element, InvalidXml> {
    let mut kind = None;
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| InvalidXml)?;
        if attribute.key.local_name().into_inner() == "type" {
            kind = attribute.value.rsplit(':').next().map(str::to_owned);
        }
    }
    Ok(Element { name: start.local_name().into_inner().to_owned(), kind, ..Element::default() })
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
        Some(element) if text.chars().all(is_char) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        Some(_) | None => return Err(InvalidXml),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { depth: 16, elements: 100 };

    fn parse(document: &str) -> Result<Element, InvalidXml> {
        Element::parse(document.as_bytes(), BOUNDS)
    }

    fn text_of(document: &str) -> Result<String, InvalidXml> {
        parse(document).map(|root| root.text)
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
    fn prefixes_do_not_matter_and_types_are_kept() {
        let text = r#"<?xml version='1.0'?><a:entry xmlns:a="x"><a:Filter i:type="d:SqlFilter">
            <SqlExpression>a &lt; 1 &amp;&#x20;b</SqlExpression><Empty /></a:Filter></a:entry>"#;
        let root = parse(text).unwrap();
        let filter = root.find("Filter").unwrap();
        assert_eq!(filter.kind.as_deref(), Some("SqlFilter"));
        assert_eq!(filter.child_value("SqlExpression"), Some("a < 1 & b"));
        assert_eq!(filter.child_text("Empty"), Some(""));
        assert_eq!(filter.child_value("Empty"), None);
    }

    #[test]
    fn what_is_not_a_moderate_document_is_refused() {
        let deep = "<a>".repeat(BOUNDS.depth + 1) + &"</a>".repeat(BOUNDS.depth + 1);
        let wide = format!("<a>{}</a>", "<b/>".repeat(BOUNDS.elements));
        for document in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "x<a/>",
            "<a x=1/>",
            "<a>&unknown;</a>",
            "<a>&#1;</a>",
            "<a>\u{1}</a>",
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
            &deep,
            &wide,
        ] {
            assert_eq!(text_of(document), Err(InvalidXml), "{document:.40}");
        }
        assert_eq!(Element::parse(b"<a>\xff</a>", BOUNDS), Err(InvalidXml));
    }

    #[test]
    fn what_xml_cannot_carry_is_named() {
        assert_eq!(check("a\t\r\n\u{fffd}🚀"), Ok(()));
        let error = check("a\u{1}").unwrap_err();
        assert_eq!(error.to_string(), "a text has the character U+0001, which XML cannot carry");
        assert_eq!(check("\u{ffff}"), Err(Unwritable('\u{ffff}')));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(text in "[\t\n\r -\u{fffd}\u{10000}-\u{10ffff}]*") {
            prop_assert_eq!(check(&text), Ok(()));
            let written = Element::text("a", text.clone()).document();
            prop_assert_eq!(text_of(&written), Ok(text));
        }

        #[test]
        fn nothing_makes_the_reader_panic(
            bytes: Vec<u8>,
            document in "[<>&;/a!\\[\\]#x0-9 \"?-]{0,40}",
        ) {
            let _ = Element::parse(&bytes, BOUNDS);
            let _ = text_of(&document);
        }
    }
}
