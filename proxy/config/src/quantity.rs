//! Kubernetes quantities as bytes: `10Gi`, `500M`, `1.5Gi`, `1e9`.

/// Reads a quantity of bytes, rounded up; `None` where it is none, is negative or does not fit.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() + fraction.len() > 18
    {
        return None;
    }
    let digits = format!("{whole}{fraction}").parse::<u128>().ok()?;
    let (factor, mut divisor) = scale(suffix)?;
    divisor = divisor.checked_mul(10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    u64::try_from(digits.checked_mul(factor)?.div_ceil(divisor)).ok()
}

/// What a suffix multiplies by, and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1000_u128.pow(2), 1),
        "G" => (1000_u128.pow(3), 1),
        "T" => (1000_u128.pow(4), 1),
        "P" => (1000_u128.pow(5), 1),
        "E" => (1000_u128.pow(6), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_kubernetes_are_read() {
        for (text, value) in [
            ("0", 0),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("1e9", 1_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1500m", 2),
            (".5k", 500),
        ] {
            assert_eq!(bytes(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_of_bytes_is_refused() {
        for text in
            ["", ".", "Gi", "-1", "+1", "1.2.3", "10GB", "10 Gi", "1e", "1e99", "99999Ei", "0x10", "1_000"]
        {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
