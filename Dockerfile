# One image, one binary: the subcommand is the role (migrate, serve, work, relay, ...).
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package stepwise && cp target/release/stepwise /stepwise

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /data stepwise && install -d -m 700 -o stepwise /data
COPY --from=build /stepwise /usr/local/bin/stepwise
USER stepwise
VOLUME /data
ENV STEPWISE_DATA_DIR=/data
ENTRYPOINT ["stepwise"]
CMD ["--help"]
