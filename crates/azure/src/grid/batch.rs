//! Events into request bodies: as few as the limits allow. Pure.

use serde::Serialize;

use super::error::GridError;

/// Largest request, in bytes. Published limit.
pub(super) const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Events of one request. Published limit.
const EVENTS_MAX: usize = 5_000;

/// The bodies, each a JSON array.
pub(super) fn bodies<E: Serialize>(events: &[E]) -> Result<Vec<Vec<u8>>, GridError> {
    let mut bodies = Vec::new();
    let (mut body, mut count) = (Vec::new(), 0);
    for event in events {
        let event = serde_json::to_vec(event).map_err(GridError::Encode)?;
        // Brackets around, or a comma before and a bracket after.
        if event.len() + 2 > REQUEST_BYTES_MAX {
            return Err(GridError::Limit { reason: "an event has more than a megabyte" });
        }
        if count == EVENTS_MAX || body.len() + event.len() + 2 > REQUEST_BYTES_MAX {
            body.push(b']');
            bodies.push(std::mem::take(&mut body));
            count = 0;
        }
        body.push(if count == 0 { b'[' } else { b',' });
        body.extend(event);
        count += 1;
    }
    if count > 0 {
        body.push(b']');
        bodies.push(body);
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(bodies: &[Vec<u8>]) -> Vec<Vec<Value>> {
        bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }

    #[test]
    fn events_are_packed_in_order_and_within_the_limits() {
        assert!(bodies::<Value>(&[]).unwrap().is_empty());
        let small: Vec<Value> = (0..EVENTS_MAX + 1).map(Value::from).collect();
        let packed = read(&bodies(&small).unwrap());
        assert_eq!(packed.iter().map(Vec::len).collect::<Vec<_>>(), [EVENTS_MAX, 1]);
        assert_eq!(packed.concat(), small);

        let large: Vec<Value> = (0..5).map(|_| Value::from("x".repeat(400 * 1024))).collect();
        let bodies_of_large = bodies(&large).unwrap();
        assert!(bodies_of_large.iter().all(|body| body.len() <= REQUEST_BYTES_MAX));
        assert_eq!(read(&bodies_of_large).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[test]
    fn the_largest_event_just_fits() {
        let fits = Value::from("x".repeat(REQUEST_BYTES_MAX - 4));
        assert_eq!(bodies(&[fits]).unwrap()[0].len(), REQUEST_BYTES_MAX);
        let over = Value::from("x".repeat(REQUEST_BYTES_MAX - 3));
        assert!(matches!(bodies(&[over]), Err(GridError::Limit { .. })));
    }
}
