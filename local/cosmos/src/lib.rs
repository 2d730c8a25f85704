//! A Cosmos DB (NoSQL) stand-in: REST on the wire, a deterministic store inside.
