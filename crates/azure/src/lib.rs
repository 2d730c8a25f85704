//! The only code that speaks to Azure services: Cosmos DB, Service Bus, credentials.
