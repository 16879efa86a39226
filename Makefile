# The whole workflow. `make run` and `make test` install what they need first.

CLU    ?= /clu
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PREFIX ?= /usr/local
# A root for everything that `make install` writes.
DESTDIR ?=


SECONDS ?= 600
FAULTS ?= 1000
SEED ?= 1

.PHONY: run test lint bench torture torture-applications torture-luns qemu lab format install uninstall clean packages test-packages

run: $(STAMP)
	@mkdir -p $(CLU) 2>/dev/null || :  # a stale mount answers no mkdir; clufsd clears it, or says what is wrong
	@exec $(BIN)/clufsd $(CLU) $(if $(STATE),--state $(STATE))

# Labs wait most of their time: three workers for two processors.
test: lint
	@$(BIN)/python -m pytest -n $$(( ($$(nproc) * 3 + 1) / 2 )) --dist loadfile --no-loadscope-reorder

lint: test-packages $(STAMP)
	@$(BIN)/ruff check --quiet clufs tests setup.py
	@$(BIN)/mypy --strict --no-error-summary clufs
	@$(BIN)/python -m pytest --quiet tests/test_layers.py

# BENCH_ETCD=1 installs what the figures of several members are compared with.
bench: test-packages $(STAMP)
	@[ -z "$(BENCH_ETCD)" ] || tools/packages.sh $(PYTHON) bench
	@$(BIN)/python -m tests.bench

lab: test-packages $(STAMP)
	@$(BIN)/clufs lab up

torture: test-packages $(STAMP)
	@$(BIN)/python -m tests.cluster.torture --seconds $(SECONDS) --seed $(SEED)

torture-applications: test-packages $(STAMP)
	@$(BIN)/python -m tests.cluster.torture.applications --faults $(FAULTS) --seed $(SEED)

torture-luns: test-packages $(STAMP)
	@$(BIN)/python -m tests.cluster.torture.luns --faults $(FAULTS) --seed $(SEED)

# The kernel's side of LUNs and watchdogs, with Debian's kernel in a virtual machine; not part of `make test`.
qemu: $(STAMP)
	@tools/packages.sh $(PYTHON) qemu
	@$(BIN)/python -m tests.qemu

format: $(STAMP)
	@$(BIN)/ruff check --fix-only --quiet clufs tests setup.py
	@$(BIN)/ruff format --quiet clufs tests setup.py

$(STAMP): pyproject.toml setup.py clufs/fuse/_lowlevel.c | packages
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

packages:
	@tools/packages.sh $(PYTHON) run

test-packages:
	@tools/packages.sh $(PYTHON) test

install: $(STAMP)
	@tools/install.sh install '$(DESTDIR)' '$(PREFIX)' '$(abspath $(BIN))'

uninstall:
	@tools/install.sh uninstall '$(DESTDIR)' '$(PREFIX)' '$(abspath $(BIN))'

clean:
	rm -rf $(VENV) .qemu build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f clufs/fuse/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
