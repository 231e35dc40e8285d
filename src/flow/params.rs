//! Parameters of queries and forms, decoded exactly once and strictly.

/// Decodes `application/x-www-form-urlencoded` text; `None` for a broken escape, invalid UTF-8 or
/// a control character, which no party of a sign-in sends.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<(String, String)>> {
    text.split(|&b| b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |&b| b == b'=');
            let name = component(halves.next().unwrap_or_default())?;
            let value = component(halves.next().unwrap_or_default())?;
            Some((name, value))
        })
        .collect()
}

/// Returns the one value of a parameter: `Err` if it is repeated, `None` if absent or empty
/// (RFC 6749 section 3.1).
pub(crate) fn one<'a>(
    params: &'a [(String, String)],
    name: &str,
) -> Result<Option<&'a str>, Repeated> {
    let mut values = params.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let first = values.next();
    if values.next().is_some() {
        return Err(Repeated);
    }
    Ok(first.filter(|value| !value.is_empty()))
}

/// A parameter stands more than once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Repeated;

/// Encodes a value for a query.
pub(crate) fn encoded(value: &str) -> impl Iterator<Item = &str> {
    url::form_urlencoded::byte_serialize(value.as_bytes())
}

fn component(text: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    let text = String::from_utf8(decoded).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c21_c30_values_are_decoded_once_and_strictly() {
        let printable: String = (0x20..0x7fu8).map(char::from).collect();
        let encoded: String = encoded(&printable).collect();
        let params = decode(format!("code={encoded}").as_bytes()).unwrap();
        assert_eq!(params, [("code".to_owned(), printable)]);
        assert_eq!(decode(b"a=%2541").unwrap()[0].1, "%41");
        for bad in ["a=%", "a=%f", "a=%zz", "a=%ff%fe", "a=%00", "%80=a", "a=%0a", "a=\u{1}"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(decode(b"&&a&b=").unwrap().len(), 2);
    }

    #[test]
    fn c05_c07_repeated_is_an_error_and_empty_is_absent() {
        let params = decode(b"a=1&b=&c=2&c=2").unwrap();
        assert_eq!(one(&params, "a"), Ok(Some("1")));
        assert_eq!(one(&params, "b"), Ok(None));
        assert_eq!(one(&params, "c"), Err(Repeated));
        assert_eq!(one(&params, "d"), Ok(None));
    }
}
