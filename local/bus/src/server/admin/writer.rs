//! Answers in XML as they are written: tags are ours, texts are escaped.

use std::fmt::Display;

use xml::{DECLARATION, Unwritable};

/// A document in the making.
#[derive(Debug)]
pub(super) struct Writer {
    out: String,
    /// The first text that XML cannot carry.
    unwritable: Option<Unwritable>,
}

impl Writer {
    pub(super) fn document() -> Writer {
        Writer { out: DECLARATION.to_owned(), ..Writer::bare() }
    }

    /// Without the declaration.
    pub(super) fn bare() -> Writer {
        Writer { out: String::new(), unwritable: None }
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
    pub(super) fn element(&mut self, tag: &str, text: impl Display) -> &mut Writer {
        let text = text.to_string();
        self.unwritable = self.unwritable.or(xml::check(&text).err());
        self.open(tag);
        xml::escape_into(&text, &mut self.out);
        self.close(tag.split(' ').next().unwrap_or(tag))
    }

    /// The same, if there is a text.
    pub(super) fn optional(&mut self, tag: &str, text: Option<impl Display>) -> &mut Writer {
        if let Some(text) = text {
            self.element(tag, text);
        }
        self
    }

    /// A link of an Atom feed.
    pub(super) fn link(&mut self, relation: &str, to: &str) {
        self.unwritable = self.unwritable.or(xml::check(to).err());
        self.out.extend(["<link rel=\"", relation, "\" href=\""]);
        xml::escape_into(to, &mut self.out);
        self.out.push_str("\"/>");
    }

    /// # Errors
    /// What is there to be described cannot be in XML.
    pub(super) fn finish(self) -> Result<String, Unwritable> {
        self.unwritable.map_or(Ok(self.out), Err)
    }
}

#[cfg(test)]
mod tests {
    use xml::Element;

    use super::*;
    use crate::limits::XML_BOUNDS;

    #[test]
    fn what_is_written_is_read_back() {
        let text = "<&>\"'\r\n\t🚀";
        let mut writer = Writer::document();
        writer.open("a").element("b x=\"1\"", text).optional("c", None::<&str>).close("a");
        let root = Element::parse(writer.finish().unwrap().as_bytes(), XML_BOUNDS).unwrap();
        assert_eq!(root.child_text("b"), Some(text));
        assert!(root.child("c").is_none());
    }

    #[test]
    fn what_xml_cannot_carry_is_refused() {
        let mut writer = Writer::document();
        writer.element("a", "fine").element("b", "\u{1f}").element("c", "\u{fffe}");
        assert_eq!(writer.finish(), Err(Unwritable('\u{1f}')));
    }
}
