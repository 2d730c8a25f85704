//! `LIKE` patterns: `%` any text, `_` any one character, an escape character before either.

/// One piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Exactly(char),
    AnyOne,
    AnyText,
}

/// Whether `text` matches `pattern`; `None` when the pattern ends in its escape character.
pub(crate) fn matches(text: &str, pattern: &str, escape: Option<char>) -> Option<bool> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            c if Some(c) == escape => Piece::Exactly(chars.next()?),
            '%' => Piece::AnyText,
            '_' => Piece::AnyOne,
            c => Piece::Exactly(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    Some(glob(&text, &pieces))
}

/// Greedy with one backtracking point, so at worst text length times pattern length.
fn glob(text: &[char], pieces: &[Piece]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pieces.get(p) {
            Some(Piece::AnyText) => {
                retry = Some((t, p));
                p += 1;
            }
            Some(Piece::AnyOne) => {
                t += 1;
                p += 1;
            }
            Some(Piece::Exactly(c)) if *c == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match retry {
                Some((from, any)) => {
                    retry = Some((from + 1, any));
                    t = from + 1;
                    p = any + 1;
                }
                None => return false,
            },
        }
    }
    pieces[p..].iter().all(|piece| *piece == Piece::AnyText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_escapes() {
        let like = |text, pattern| matches(text, pattern, None).unwrap();
        assert!(like("order.created", "order.%"));
        assert!(like("order.created", "%.cre_ted"));
        assert!(like("", "%"));
        assert!(like("aXbXc", "a%X%c"));
        assert!(!like("order", "orde"));
        assert!(!like("order", "order_"));
        assert!(!like("Order", "order"));
        assert_eq!(matches("100%", "100\\%", Some('\\')), Some(true));
        assert_eq!(matches("100x", "100\\%", Some('\\')), Some(false));
        assert_eq!(matches("x", "x\\", Some('\\')), None);
        // Exponential for a naive matcher.
        assert!(!like(&"a".repeat(2_000), &format!("{}b", "a%".repeat(200))));
    }
}
