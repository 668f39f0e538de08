# One front for everything. Each target sets up what it needs on a machine that has only Python, make and pip.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
BIN := .venv/bin
SETUP := .venv/.ready
unexport PYTHONDONTWRITEBYTECODE  # hundreds of processes would compile everything that they import

.PHONY: $(shell grep -oE '^[a-z-]+:' $(MAKEFILE_LIST) | tr -d :)
.DEFAULT_GOAL := help

demo: $(SETUP) ## break a small shop in front of you, and heal it
	@$(BIN)/prunella demo

test: $(SETUP) ## everything: checks, unit tests, flows, simulation, kill tests
	@$(MAKE) --no-print-directory --jobs 2 check tests

tests: $(SETUP)
	@$(BIN)/python -m pytest -n 3 --dist worksteal

unit: $(SETUP) ## the quick tests only
	@$(BIN)/python -m pytest -n 2 -m "not slow"

check: $(SETUP) ## format, lint, rooms, types
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo >.import-linter.log 2>&1 || { cat .import-linter.log; exit 1; }
	@$(BIN)/mypy

format: $(SETUP) ## put the code into shape
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

bench: $(SETUP) .venv-peers/.ready ## measure, as ratios against a floor and peers in the same run
	@.venv-peers/bin/python -m bench guard && $(BIN)/python -m bench imports classify known grouping redact learning recognise issues intake flood begin detect mend stuck forget runner backlog dashboard live

chaos: $(SETUP) ## kill workers and PostgreSQL, and the one process on SQLite, count what became of everything; KILLS=, PG_KILLS=, EVENTS=, SEED=
	@$(BIN)/python -m chaos --kills $(or $(KILLS),1000) --pg-kills $(or $(PG_KILLS),20) \
	  --events $(or $(EVENTS),10000) --seed $(or $(SEED),1)

outage: $(SETUP) ## PostgreSQL crashes and is away for a minute; nothing accepted is lost
	@PRUNELLA_OUTAGE_S=60 $(BIN)/python -m pytest -q -s tests/flows/test_outage.py

infrastructure: $(SETUP) ## a full disk, names that are not found, a clock that jumps, a PostgreSQL that hangs; PLANT= a bug
	@$(BIN)/python -m chaos infrastructure $(if $(PLANT),--plant "$(PLANT)")

replies: $(SETUP) ## lose each reply of each story once: nothing is done twice where keys are honoured
	@$(BIN)/python -m chaos replies

limits: .venv-peers/.ready ## CALLS= (2000) through a service that allows 20 per second, beside libraries that only retry; two minutes
	@.venv-peers/bin/python -m chaos limits --calls $(or $(CALLS),2000)

breakers: $(SETUP) ## 8 processes behind one shared breaker, OUTAGES= (12); then EXAMPLES= (5000) histories beside a model; PLANT=
	@$(BIN)/python -m chaos breakers --outages $(or $(OUTAGES),12) $(if $(PLANT),--plant "$(PLANT)")
	@PRUNELLA_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest -q --timeout 1200 tests/guard/test_breaker.py -k model

deliveries: $(SETUP) ## EVENTS= signed deliveries in three copies, shuffled; KILLS= (50) right behind an answer; SEED=, PLANT=
	@$(BIN)/python -m chaos deliveries --events $(or $(EVENTS),10000) --delivery-kills $(or $(KILLS),50) \
	  --seed $(or $(SEED),1) $(if $(PLANT),--plant "$(PLANT)")

soak: $(SETUP) ## a steady load for MINUTES= (default 10): memory, files, rows and logs stop growing; PLANT= a bug to see it named
	@$(BIN)/python -m chaos soak --soak-minutes $(or $(MINUTES),10) $(if $(PLANT),--plant "$(PLANT)")

leaks: $(SETUP) ## a canary in every field; EVENTS= (default 1000) later none may sing in any dump, log, page, message or answer
	@PRUNELLA_CANARY_EVENTS=$(or $(EVENTS),1000) $(BIN)/python -m pytest -q -s tests/flows/test_canaries.py

roles: $(SETUP) ## ask every route as nobody and as every role
	@$(BIN)/python -m pytest -q -n 2 tests/web/test_auth.py -k route

addresses: $(SETUP) ## every spelling, redirect and changing answer that could lead a call to where it may not go
	@$(BIN)/python -m pytest -q -n 2 tests/test_egress.py tests/notify/test_fence.py tests/shell/test_addresses.py

bounds: $(SETUP) ## bombs, drips, depth and silent lines: what they cost in memory and time
	@$(BIN)/python -m pytest -q -n 2 tests/shell/test_bodies.py tests/flows/test_bad_input.py \
	  tests/web/test_bodies.py tests/web/test_wire.py
	@$(BIN)/python -m pytest -q tests/test_egress.py -k "bomb or deadline or limit or gauge"

profiles: $(SETUP) ## compile what is known about services and their issues, after a profile or the pack was changed
	@$(BIN)/python tools/profiles.py && $(BIN)/python tools/packs.py

reference: $(SETUP) ## write docs/reference anew, after a command, setting, error, event or metric was changed
	@$(BIN)/python tools/reference.py

conformance: $(SETUP) $(if $(PEERS),.venv-peers/.ready) ## keep the promises that others break; PEERS=1 puts them beside
	@PYTHONPATH=tests $(if $(PEERS),.venv-peers,.venv)/bin/python -m conformance \
	  $(if $(PEERS),--peers --write docs/conformance.md)

fuzz: .venv-fuzz/.ready ## drive what reads strangers' words with atheris: TARGETS= (all), SECONDS= each (60), RUNS= at most
	@for target in $(or $(TARGETS),$$(.venv-fuzz/bin/python -c 'from fuzz.targets import TARGETS; print(*TARGETS)')); do \
	  .venv-fuzz/bin/python -m fuzz $$target -max_total_time=$(or $(SECONDS),60) $(if $(RUNS),-runs=$(RUNS)) || exit 1; done

fuzz-api: $(SETUP) ## ask every route as everybody, CASES= times (default 20000), with what is allowed and what is not
	@PYTHONPATH=tests $(BIN)/python -m web.fuzzing --cases $(or $(CASES),20000) --seed $(or $(SEED),1)

flood: $(SETUP) ## 50,000 events from one source beside 100 from another: what was lost, and how long the other waited
	@PYTHONPATH=tests $(BIN)/python -m shell.flooding --events $(or $(EVENTS),50000)

simulate: $(SETUP) ## play SEEDS= histories (default 1000) of failures, deaths and people from seed FIRST= on: no promise may break
	@PYTHONPATH=tests $(BIN)/python -m simulation --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),0)

week: $(SETUP) ## a virtual week of failures with retention: neither rows nor memory go on growing; DAYS=, SEED=
	@PYTHONPATH=tests $(BIN)/python -m simulation.week $(if $(DAYS),--days $(DAYS)) --seed $(or $(SEED),1)
shell: $(SETUP) ## everything that strangers try against a running server; DATABASE=postgresql for one on PostgreSQL
	@PRUNELLA_SHELL_DATABASE=$(or $(DATABASE),sqlite) $(BIN)/python -m pytest -q -n 2 tests/shell

machines: $(SETUP) ## histories of gates, incidents, operations, approvals and known issues beside a model: minutes
	@$(BIN)/python -m pytest -q --timeout 3600 --hypothesis-profile deep tests/store/test_machines.py

audit: $(UV) ## known vulnerabilities of everything that is locked; 2 where nobody could be asked
	@$(PYTHON) tools/audit.py $(UV)

sbom: ## the bill of materials as CycloneDX, from the lock alone: prunella.cdx.json
	@$(PYTHON) tools/sbom.py >prunella.cdx.json && echo prunella.cdx.json

vendor: ## fetch the pages' static files from npm anew, after a version was changed in tools/vendor.py
	@$(PYTHON) tools/vendor.py

pictures: $(SETUP) ## take the dashboard's pictures for the documents
	@$(BIN)/python tools/pictures.py

lock: $(UV) ## resolve the development environment anew
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --all-extras --group dev pyproject.toml --upgrade --output-file requirements/dev.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --extra server pyproject.toml --upgrade --output-file requirements/server.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 requirements/peers.in --upgrade --output-file requirements/peers.txt
	@for tool in fuzz uv; do $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
	  --no-header --python-version 3.11 requirements/$$tool.in --upgrade --output-file requirements/$$tool.txt || exit 1; done

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(SETUP): requirements/dev.txt pyproject.toml | $(UV)
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --compile-bytecode --python .venv requirements/dev.txt
	@$(UV) pip install --quiet --python .venv --no-deps --editable .
	@tools/chromium
	@touch $@

.venv-peers/.ready: requirements/peers.txt pyproject.toml | $(UV)
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-peers
	@$(UV) pip sync --quiet --python .venv-peers requirements/peers.txt
	@$(UV) pip install --quiet --python .venv-peers --no-deps --editable .
	@touch $@

.venv-fuzz/.ready: requirements/server.txt requirements/fuzz.txt pyproject.toml | $(UV)
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-fuzz
	@$(UV) pip sync --quiet --require-hashes --python .venv-fuzz requirements/server.txt requirements/fuzz.txt
	@$(UV) pip install --quiet --python .venv-fuzz --no-deps --editable .
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --target .tools -r requirements/uv.txt
