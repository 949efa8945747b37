//! Durable sagas on Postgres.
