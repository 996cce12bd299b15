# make test        installs what is missing, builds, and runs every test
# make check       formatting, lints, documentation, licences and sources of dependencies
# make crash       kill -9: KILLS=2000 times at random, POINT_KILLS=50 times at each named place; KILLS=10000 for a night;
#                  ROUNDS=1000 clients that hang up in each phase of a request; PostgreSQL away for OUTAGE=120 seconds
# make clients     LangChain, LlamaIndex, the Vercel AI SDK, llm and Codex complete turns with tools (fetched from PyPI and npm)
# make fuzz        what OpenAPI descriptions of Azure OpenAI allow, and what not: CASES=5000; AZURE_SPECS names their folder
# make scenarios   the balancer over real sockets for half an hour; writes docs/scenarios.md
# make bench       measures the gateway beside nginx and a bare pass-through (bench/README.md)

CARGO ?= cargo
DENY_VERSION := 0.20.2
DENY := target/tools/bin/cargo-deny

# Compiled for tests of crashes only: places at which a process can be told to die.
FEATURES := --features kill-points

.PHONY: test crash check clients fuzz scenarios bench tools

test: tools
	tests/sdk/prepare
	tests/console/prepare
	@# With the system's libpq, as in the container image: PostgreSQL over TLS is tested too.
	$(CARGO) test --locked --no-default-features $(FEATURES)

crash: export KILLS ?= 2000
crash: export POINT_KILLS ?= 50
crash: export ROUNDS ?= 1000
crash: export OUTAGE ?= 120
crash:
	$(CARGO) test --locked --no-default-features $(FEATURES) --test it -- --nocapture --test-threads=1 crash:: disk:: \
		budgets::leaving replicas::away::while replicas::cut

check: $(DENY)
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --document-private-items
	@# Also what other systems than this one would be built with: it is looked at without a network.
	$(CARGO) fetch --locked
	$(DENY) --offline check licenses bans sources
	@# Decompression is what turns a few hundred bytes into a gigabyte: no crate may bring it in.
	@if $(CARGO) tree --locked -e features | grep -E 'compress|brotli|zstd|flate'; then \
		echo 'error: the features above decompress; turn them off in Cargo.toml' >&2; exit 1; fi

clients: tools
	tests/clients/prepare
	$(CARGO) build --locked --no-default-features $(FEATURES)
	tests/clients/run

fuzz: CASES ?= 5000
fuzz: SEED ?= 1
fuzz: tools
	tests/fuzz/prepare
	$(CARGO) build --locked --no-default-features $(FEATURES)
	tests/fuzz/run --cases $(CASES) --seed $(SEED)

scenarios:
	tests/scenarios

bench:
	bench/run

tools:
	tests/prepare

# Unoptimised and without what fetches advisories: it is built in a minute and runs once.
$(DENY):
	$(CARGO) install cargo-deny@$(DENY_VERSION) --locked --debug --no-default-features --root target/tools
