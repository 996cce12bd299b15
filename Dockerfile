FROM rust:1.95-slim-bookworm AS builder
WORKDIR /build
# PostgreSQL's client library with TLS; see `bundled-libpq` in Cargo.toml.
RUN apt-get update && apt-get install -y --no-install-recommends libpq-dev pkg-config && rm -rf /var/lib/apt/lists/*

# The dependencies alone first: they change seldom, and this layer is kept until they do.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir -p src tests/it benches \
    && echo 'fn main() {}' | tee src/main.rs benches/ledger.rs benches/millions.rs benches/pick.rs benches/shared.rs > tests/it/main.rs \
    && touch src/lib.rs \
    && cargo build --profile dist --locked --no-default-features \
    && rm -r src target/dist/.fingerprint/aoai-gateway-*

COPY migrations migrations
# What the schema of the settings says of each.
COPY settings/00-gateway.toml settings/
COPY src src
RUN cargo build --profile dist --locked --no-default-features

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libpq5 ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin gateway \
    && mkdir -p /app/settings /app/data \
    && chown gateway:gateway /app/data
COPY --from=builder /build/target/dist/aoai-gateway /usr/local/bin/aoai-gateway
COPY LICENSE /usr/share/doc/aoai-gateway/LICENSE
COPY settings /app/settings

WORKDIR /app
USER 10001:10001
VOLUME ["/app/settings", "/app/data"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 CMD ["aoai-gateway", "healthcheck"]
ENTRYPOINT ["aoai-gateway"]
CMD ["serve"]
