# Two commands do everything, set-up included: `make demo` and `make test`.

CARGO ?= cargo
# Tests and the demo under CI share one profile, so that dependencies are compiled once.
PROFILE ?= ci
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Everything, training included. One selection for every command: another one would compile dependencies again.
ALL := --workspace --features finch-train/torch --locked
# Programs beside tests: with the examples, so that dependencies have the features that the tests give them.
BUILT := $(ALL) --bins --examples

.PHONY: demo test libtorch format lint unit alone docs peers peers-torch deny sample-logs faults azurite fuzz bench \
  bench-train trainer-dist

demo: libtorch
	$(CARGO) build --release $(ALL)
	$(TARGET)/release/finch run pipelines/demo.toml

test: libtorch format lint unit alone docs peers deny

# What finch-train is linked with and runs on: from the Python Package Index, once, with checksums.
libtorch:
	python3 scripts/libtorch.py

format:
	$(CARGO) fmt --all --check

# Warnings are errors on the Rust minor that the project pins; a newer one may warn about more.
lint: libtorch
	@if $(CARGO) --version | grep -q '^cargo 1\.95\.'; then deny='-D warnings'; else deny=''; \
	  echo "NOTE: $$($(CARGO) --version) is not 1.95, so warnings are shown and do not fail"; fi; \
	set -x; $(CARGO) clippy $(ALL) --all-targets --profile $(PROFILE) -- $$deny

unit: libtorch
	$(CARGO) test $(ALL) --profile $(PROFILE)

# The trainer without libtorch: configuration, batches, packs, schedule, plans.
alone:
	$(CARGO) test -p finch-train -p finch-core --profile $(PROFILE) --locked

docs: libtorch
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(ALL) --no-deps --profile $(PROFILE) --quiet

# Other programs read what finch wrote.
peers: libtorch
	$(CARGO) build $(BUILT) --profile $(PROFILE)
	python3 tests/peers/check.py $(TARGET)/$(PROFILE)/finch

# transformers and datasets read the trained model and its packs. They need 5 GB, so they are installed only when
# this is called (into build/peers-torch, once).
peers-torch: libtorch
	$(CARGO) build $(BUILT) --profile $(PROFILE)
	python3 tests/peers/check_model.py $(TARGET)/$(PROFILE)/finch
	if [ -d build/peers-parity ]; then FINCH_PARITY=$(CURDIR)/build/peers-parity \
	  $(CARGO) test $(ALL) --profile $(PROFILE) --bin finch-train-torch -- --ignored --nocapture; fi

# Kills builds at 200 moments, trainings at 10, and the server of stores in a bucket, and lets the disk run full; the
# tests do a small part of it.
faults: libtorch
	$(CARGO) build --release $(BUILT)
	python3 tests/faults/kill.py --finch $(TARGET)/release/finch --kills $(or $(KILLS),200) --train-kills $(or $(TRAIN_KILLS),10)
	python3 tests/faults/full.py --finch $(TARGET)/release/finch
	python3 tests/faults/far.py --finch $(TARGET)/release/finch --server $(TARGET)/release/examples/s3-server --rounds $(or $(ROUNDS),20)

# A store and sources in Azure's emulator, which npm installs into build/azurite.
azurite: libtorch
	$(CARGO) build $(BUILT) --profile $(PROFILE)
	python3 tests/remote/azurite.py --finch $(TARGET)/$(PROFILE)/finch

# Mutations of the seeds of every reader, for a time each; the tests do a small part of it. A build of its own.
fuzz:
	cd fuzz && $(CARGO) run --profile ci --no-default-features --example run -- all --seconds $(or $(SECONDS),60)

# What finch takes to find nothing to do, to hash, in memory, to read logs beside DuckDB, Polars and Python, to find
# near-duplicates beside datatrove and text-dedup, and to remove equal steps and label the rest beside DuckDB; needs 20 GB of
# disk. Figures, not tests.
bench: libtorch
	$(CARGO) build --release $(BUILT)
	if ! command -v b3sum >/dev/null && [ ! -x build/b3sum/bin/b3sum ]; then \
	  $(CARGO) install b3sum --locked --root build/b3sum --target-dir build/b3sum/target || true; fi
	for bench in noop hash memory readers near relational; do echo; echo "== $$bench"; python3 benches/$$bench.py \
	  --finch $(TARGET)/release/finch --generate $(TARGET)/release/examples/generate || exit 1; done

# Training beside PyTorch, and plans of memory beside what is taken; 5 GB for PyTorch, and 7 GB of memory.
bench-train: libtorch
	$(CARGO) build --release $(BUILT)
	for bench in train plan; do echo; echo "== $$bench"; python3 benches/$$bench.py \
	  --finch-train $(TARGET)/release/finch-train || exit 1; done

# The trainer for machines without Rust, as an archive in build/ that names no path of this machine. A build of its own
# (build/dist-target, some minutes), so that the others stay as they are.
trainer-dist: libtorch
	CARGO='$(CARGO)' python3 scripts/trainer-dist.py

deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then set -x; $(CARGO) deny check bans licenses sources; \
	else echo "SKIPPED deny: cargo-deny is not installed (cargo install cargo-deny)"; fi

# Runs the real scaffolds again; equivalent to the committed logs, not identical (data/README.md).
sample-logs:
	python3 data/sample-logs/make.py --out build/sample-logs/logs
