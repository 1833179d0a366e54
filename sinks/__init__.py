"""Where results become durable and readable: storage, manifests, Parquet tables, DuckDB views."""
