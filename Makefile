# Every command of the project. Each installs by itself what it is missing (tools/install.sh).
#
#   make demo     two private MariaDB servers, the proxy and live traffic; flip the flag and watch (ARGS="--seconds 20")
#   make test     what CI runs: format, lints, docs, every test on real servers
#   make lint     format and lints only
#   make bench    the proxy against HAProxy and no proxy at all, the standby against a replica (QUICK=1 for the short form)
#   make dist     the build to ship: target/dist/switchover
#   make fuzz     every fuzz target for SECONDS each (60)
#   make chaos    the tests that load and break servers, in their long form

# One profile for all of it, so that nothing is compiled twice; what is shipped and measured has its own.
PROFILE := quick
SECONDS ?= 60

.PHONY: demo test lint bench dist fuzz chaos build

build:
	cargo build --profile $(PROFILE)

demo:
	@tools/install.sh demo
	cargo run --profile $(PROFILE) --quiet -- demo $(ARGS)

lint:
	cargo fmt --check
	cargo clippy --profile $(PROFILE) --quiet --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check bans licenses sources; else echo "cargo-deny is not installed: dependencies not checked"; fi

# A failed test says where and what; backtraces would bury it.
test chaos: export RUST_BACKTRACE := 0
test:
	@tools/install.sh test
	@$(MAKE) --no-print-directory lint
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --profile $(PROFILE) --quiet --no-deps --document-private-items
	cargo test --profile $(PROFILE) --quiet --doc
	cargo nextest run --cargo-profile $(PROFILE); status=$$?; tools/stop-stores.sh; exit $$status

dist:
	cargo build --profile dist

bench: dist
	@tools/install.sh bench
	python3 benches/e2e/bench.py $(if $(QUICK),--quick) $(ARGS)
	python3 benches/standby/apply.py $(if $(QUICK),--transactions 10000 --large 10 --runs 1)

fuzz:
	@tools/install.sh fuzz
	cd fuzz && for target in $$(RUSTC_BOOTSTRAP=1 cargo fuzz list); do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 || exit 1; done

chaos:
	@tools/install.sh test
	SWITCHOVER_LONG=1 cargo nextest run --cargo-profile $(PROFILE) --profile long -E 'binary(it) & test(/^(load|chaos|takeover|pool::bounds|standby::cutover|standby::cutover_deaths|standby::deaths|standby::fallback|standby::journal|standby::journal_cutover|standby::recorded|standby::rename|standby::workload)::/)'; status=$$?; tools/stop-stores.sh; exit $$status
