# Two commands do everything, set-up included: `make demo` and `make test`.

CARGO ?= cargo
# Tests and the demo under CI share one profile, so that dependencies are compiled once.
PROFILE ?= ci
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test format lint unit docs peers deny sample-logs

demo:
	$(CARGO) build --release --locked --bin finch
	$(TARGET)/release/finch run pipelines/demo.toml

test: format lint unit docs peers deny

format:
	$(CARGO) fmt --all --check

# Warnings are errors on the Rust minor that the project pins; a newer one may warn about more.
lint:
	@if $(CARGO) --version | grep -q '^cargo 1\.95\.'; then deny='-D warnings'; else deny=''; \
	  echo "NOTE: $$($(CARGO) --version) is not 1.95, so warnings are shown and do not fail"; fi; \
	set -x; $(CARGO) clippy --workspace --all-targets --profile $(PROFILE) --locked -- $$deny

unit:
	$(CARGO) test --workspace --profile $(PROFILE) --locked

docs:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --profile $(PROFILE) --locked --quiet

# Other programs read what finch wrote.
peers:
	$(CARGO) build --profile $(PROFILE) --locked --bin finch
	python3 tests/peers/check.py $(TARGET)/$(PROFILE)/finch

deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then set -x; $(CARGO) deny check bans licenses sources; \
	else echo "SKIPPED deny: cargo-deny is not installed (cargo install cargo-deny)"; fi

# Runs the real scaffolds again; equivalent to the committed logs, not identical (data/README.md).
sample-logs:
	python3 data/sample-logs/make.py --out build/sample-logs/logs
