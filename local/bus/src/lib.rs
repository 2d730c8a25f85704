//! A Service Bus stand-in: AMQP 1.0 on the wire, a deterministic broker inside.
