# Each target makes .venv by itself, and makes it anew when pyproject.toml changes.
#
#   make learn                          a course directory for the tutorial, and its first red test
#   make cluster                        three nodes on this machine; Ctrl-C ends them
#   make test                           the fast tier: under three minutes on two cores
#   make lint                           ruff format, ruff check, mypy --strict
#   make crash                          the long power-cut run, and every test that is marked slow
#   make plain                          the engines' tests again, without the accelerations
#   make chaos                          rounds of faults on three real nodes, judged for linearizability; ROUNDS=100
#   make gateway                        recorded answers of etcd's JSON gateway, and 100,000 mutated requests; REQUESTS=10000
#   make nightly                        the long run on three seeds, and the real systems; both in plain form; the author's check
#   make pythons                        how a store's life ends, on every Python from 3.11 on that is found
#   make interop                        against the real systems whose formats these are
#   make clients                        etcd's own clients (curl, etcd3gw, tooz, Patroni) against three nodes on three engines
#   make page                           the live page in a real browser: Debian's chromium
#   make author                         the author's check: each chapter of the tutorial can fail, be passed, and find its bugs
#   make book                           all pages and an API reference as a site, in book/site; links are checked
#   make bench                          microbenchmarks: one for each part of the engines and of Raft, in one table
#   make bench-compare                  the same, beside the last saved run of `make bench`
#
#   METCD_SEED=7 make test              another seed
#   make test ARGS="-k scan -x"         more words for the command of the target
#   make test PLAIN=1                   every engine without its accelerations; any target takes it
#   make test WORKERS=8                 on more cores; WORKERS=0 in one process, for a debugger
#   make test FILES=/var/tmp            its files on the disk; they are in memory, where 2 GB of it are free in /dev/shm
#   make learn DIR=~/kv                 the course directory somewhere else
#   make test PYTHON=python3.13         another Python for .venv

PYTHON ?= python3
ARGS ?=
DIR ?= my-metcd
ROUNDS ?= 10
REQUESTS ?= 100000
WORKERS ?= 5
FILES ?= $(shell df -k /dev/shm 2>/dev/null | awk '$$4 > 2000000 && $$6 == "/dev/shm" {print $$6}')
VENV := .venv
SOURCES := engines raft server bench tutorial tests examples
BIN := $(VENV)/bin
BENCH_JSON := .benchmarks/last.json

ifdef PLAIN
export METCD_PLAIN := $(PLAIN)
endif

# Images for containers set it, and then each of some hundred processes that the tests start compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: learn cluster test lint crash chaos plain gateway nightly pythons interop clients page author book bench bench-compare clean

learn: $(VENV)/.installed
	@if [ -d "$(DIR)/.course" ]; then \
	    cd "$(DIR)" && "$(CURDIR)/$(BIN)/metcd" learn status; \
	else \
	    $(BIN)/metcd learn init "$(DIR)" >/dev/null && cd "$(DIR)" && "$(CURDIR)/$(BIN)/metcd" learn start 1; \
	fi
	@echo 'All commands are typed there:  source $(BIN)/activate && cd $(DIR)'

cluster: $(VENV)/.installed
	$(BIN)/metcd cluster $(ARGS)

# Half of the run would be waiting. So the files are where an fsync takes no milliseconds (power cuts are SimEnv's matter,
# and `make nightly` runs all on the disk), there are more workers than cores, and each takes a part of its own: while one
# waits for elections, another computes. Only a failed test's files stay.
test: $(VENV)/.installed
	$(if $(FILES),TMPDIR=$(FILES)) $(BIN)/python -m pytest --ignore=tests/interop --ignore=tests/page -n $(WORKERS) --dist worksteal -o tmp_path_retention_policy=failed $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

crash: $(VENV)/.installed
	$(BIN)/python -m tests.crash $(ARGS)
	$(BIN)/python -m pytest -m slow --ignore=tests/interop --ignore=tests/page

# Three processes on three engines, a proxy for each link, eight clients; any ten seeds in a row have nearly every fault.
chaos: $(VENV)/.installed
	$(BIN)/python -m tests.cluster --rounds $(ROUNDS) $(ARGS)

# Each recorded situation on one node of each engine, and on three of three; then requests that nobody in his senses sends,
# and mutated bodies through both forms of the codec: those two tests always, whatever share of the slow ones is asked for.
gateway: $(VENV)/.installed
	$(BIN)/python -m tests.gateway $(ARGS)
	$(BIN)/python -m tests.gateway --nodes 3 --engines lsm,btree,bitcask $(ARGS)
	$(BIN)/python -m tests.gateway.mutants --requests $(REQUESTS)
	METCD_SHARE=1 $(BIN)/python -m pytest -q -m slow tests/server/v3/test_fast_json.py tests/server/v3/test_fast_wire.py

# What `make test` asks of the engines, asked of their plain form.
plain: $(VENV)/.installed
	METCD_PLAIN=1 $(BIN)/python -m pytest -n $(WORKERS) tests/conformance tests/engines tests/lsm tests/btree tests/bitcask tests/crash $(ARGS)

nightly:
	$(MAKE) test FILES=/var/tmp
	$(MAKE) crash METCD_SEED=0
	$(MAKE) crash METCD_SEED=1
	$(MAKE) crash METCD_SEED=2
	$(MAKE) chaos ROUNDS=60
	$(MAKE) gateway
	$(MAKE) gateway PLAIN=1 REQUESTS=20000
	$(MAKE) interop
	$(MAKE) plain
	$(MAKE) crash PLAIN=1
	$(MAKE) interop PLAIN=1
	$(MAKE) clients
	$(MAKE) page
	$(MAKE) author

# A venv for each Python, with the engines' libraries and nothing else: how a process ends is each version's own matter.
pythons: $(VENV)/.installed
	$(BIN)/python tests/conformance/pythons.py $(ARGS)

# Here a test that is skipped, because something it needs is missing, is a failure.
interop: $(VENV)/.installed-interop $(VENV)/.installed-npm
	METCD_NO_SKIPS=1 $(BIN)/python -m pytest -m "slow or not slow" tests/interop $(ARGS)

# Unmodified, from PyPI and from Debian. `ARGS="--against etcd"` asks a real etcd for what they should get.
clients: $(VENV)/.installed-clients
	$(BIN)/python -m tests.clients $(ARGS)

# In chromium, on three real nodes. Here, too, a test that is skipped is a failure. METCD_SCREENSHOTS=DIR keeps pictures.
page: $(VENV)/.installed-browser
	METCD_NO_SKIPS=1 $(BIN)/python -m pytest -m "slow or not slow" tests/page $(ARGS)

author: $(VENV)/.installed
	$(BIN)/python -m tutorial.learn.author $(ARGS)

book: $(VENV)/.installed-book
	$(BIN)/python -m tutorial.book.build

# Each run is saved, in .benchmarks. Whole engines are `metcd bench`'s matter.
bench: $(VENV)/.installed
	@mkdir -p $(dir $(BENCH_JSON))
	$(BIN)/python -m pytest $(wildcard tests/bench/test_bench_*.py) -q --benchmark-enable --benchmark-only --benchmark-quiet --benchmark-autosave \
	    --benchmark-json=$(BENCH_JSON) $(ARGS)
	@$(BIN)/python tests/bench/table.py $(BENCH_JSON)

bench-compare: $(VENV)/.installed
	$(BIN)/python -m pytest $(wildcard tests/bench/test_bench_*.py) -q --benchmark-enable --benchmark-only --benchmark-compare \
	    --benchmark-columns=median,min,iqr --benchmark-group-by=name --benchmark-sort=name $(ARGS)

clean:
	rm -rf $(VENV) book .pythons .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache

# pip reads [dependency-groups] since 25.1
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q -e . --group dev
	@touch $@

$(VENV)/.installed-interop: $(VENV)/.installed
	$(BIN)/python -m pip install -q --group interop
	@touch $@

$(VENV)/.installed-clients: $(VENV)/.installed
	$(BIN)/python -m pip install -q --group clients
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed
	$(BIN)/python -m pip install -q --group browser
	@touch $@

$(VENV)/.installed-book: $(VENV)/.installed
	$(BIN)/python -m pip install -q --group book
	@touch $@

# A LevelDB for node. Its own build step isn't needed: the package carries the built library.
$(VENV)/.installed-npm: $(VENV)/.installed Makefile
	npm install --prefix $(VENV)/npm --no-save --no-audit --no-fund --loglevel=error classic-level@3.0.0
	@touch $@
